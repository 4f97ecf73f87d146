"""Checkpoints: written, verified, kept, read."""
