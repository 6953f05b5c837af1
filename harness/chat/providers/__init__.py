"""Providers of language-model APIs."""
