"""What metrics of dictionaries share: which texts they read, the vectors of these, and passes over them that several metrics want."""

VERSION = 2
"""Part of the keys under which all this is kept; raised when what is kept changes."""
