"""Private inference: a model that one has, computed on what another has; neither shows it."""
