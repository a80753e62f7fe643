"""Privacy accounting: what a release costs, who sees it, and what has been spent."""
