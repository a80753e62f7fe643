"""The hospital: its data, its share of the work and of the noise, its own limits."""
