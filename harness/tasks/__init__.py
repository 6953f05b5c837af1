"""Tasks: the schema of a task file, and finding one."""
