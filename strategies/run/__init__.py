"""One run's files, written and read."""
