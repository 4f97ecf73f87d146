"""Trained models put to use: features, measures, pictures."""
