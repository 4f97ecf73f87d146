"""Records to batches of uint8 images. Never touches a model."""
