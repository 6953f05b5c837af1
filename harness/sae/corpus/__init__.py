"""One pass of a dictionary over a corpus: collecting, statistics, counts."""
