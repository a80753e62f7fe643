"""Sealing: quantise, pack, encrypt, add blindly, open, and prove who is in a sum."""
