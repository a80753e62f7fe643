"""The hospital itself: its ground, its part in a training, what it keeps between messages."""
