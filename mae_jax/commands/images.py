"""What verbs that take images without a config say of them."""

from mae_jax.commands.verb import Flag

IMAGES = Flag("images", "FOLDER|FILE", "any images, a prepared set, or one file")
