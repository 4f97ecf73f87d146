"""What makes the model fast on one kind of hardware. Nothing here changes what it computes.

Two things are used from outside. `ways`: how attention is computed, an object that whoever knows
the devices hands to a model. And operations that stand for a formula each, with gradients by hand:
`products` (matrix products), `gelu.gelu` and `normalisation.normalise`.
"""
