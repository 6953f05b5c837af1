"""Detection: does a method tell texts with a concept from texts without?"""
