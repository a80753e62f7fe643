"""An attack with made-up patients on the functions that a hospital really calls."""
