"""What is asked of a record: its targets, the loss that teaches it, and what an answer is worth."""
