"""The server: it adds what it cannot read."""
