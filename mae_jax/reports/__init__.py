"""A run, or many of them, as one HTML page."""
