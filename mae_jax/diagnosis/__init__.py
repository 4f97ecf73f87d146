"""Whether a model is learning, told without labels."""
