"""What metrics of dictionaries share: which texts they read, and passes over them that several metrics want."""
