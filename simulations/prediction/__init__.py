"""Using what a run left: predictions into a table, explanations, exports with a model card."""
