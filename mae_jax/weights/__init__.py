"""Weights in and out: one table of names, and a reader and a writer for every format."""
