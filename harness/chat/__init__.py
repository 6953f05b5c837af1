"""Talking to language-model APIs: values, providers, a runner that keeps rates and retries, a cache of replies, costs, keys.

Judges and prompt writers use it alike. Nothing here knows what is asked, and nothing imports torch.
"""
