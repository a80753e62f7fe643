"""Models that can be trained under noise."""
