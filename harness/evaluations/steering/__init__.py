"""Steering: does a method make the model express a concept?"""
