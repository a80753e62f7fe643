"""A trained model in use: predictions with their doubt, and why. Needs neither Flower nor keys."""
