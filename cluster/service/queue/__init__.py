"""The table of jobs, and those who work on it."""
