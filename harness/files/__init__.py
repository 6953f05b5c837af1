"""Files: atomic writes, artifacts, shards, rows of tables, hashing, the cache folder, progress."""
