"""Canary patients and the wire: what a whole run gives away, found out by looking."""
