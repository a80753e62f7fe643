"""Lesions in volumes, found by a network that several hospitals teach."""
