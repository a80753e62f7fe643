"""Attacks that the literature names, on what each regime lets somebody see."""
