"""Formats that images lie in, beside folders and prepared sets: one file each."""
