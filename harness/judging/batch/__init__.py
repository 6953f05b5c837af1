"""Judging through batch APIs: handed in, kept with tickets, collected later."""
