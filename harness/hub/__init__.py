"""The Hugging Face hub: finding, pinning and fetching what lies there, with errors of one line.

Everything that comes from the hub passes through this room, whichever library reads it afterwards. What lies in the hub's cache is taken from
there without asking, so a run that has begun does not change under way, and a finished one needs no network.
"""
