"""Comparisons: many runs on one footing, and what they answer."""
