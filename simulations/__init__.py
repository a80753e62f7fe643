"""The laptop: scenarios, engine, results, figures."""
