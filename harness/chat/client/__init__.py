"""The client of language-model APIs: rates, retries, the cache of paid replies."""
