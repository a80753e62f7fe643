"""Handwritten digits at several sites, with PyTorch and Flower."""
