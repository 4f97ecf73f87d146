"""An encoder that is taught the tokens of a larger one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mae_jax.models import sizes
from mae_jax.models.encoder import Encoder
from mae_jax.models.layers import xavier
from mae_jax.models.targets import Features


class Student(nnx.Module):
    """Encoder, and one linear map of its tokens to the teacher's; nothing is hidden.

    The map is left behind when the encoder goes on to be used.

    Args:
      values: how many numbers the teacher's tokens have.
      class_taught: whether its class token is predicted, too.
      dimensions: of the encoder, as of `sizes.resolve`.
      class_token, dtype, scan, attention, remat: as of `MaskedAutoencoder`.

    Raises:
      ValueError: dimensions that do not fit together.
    """

    def __init__(
        self,
        *,
        values: int,
        class_taught: bool,
        class_token: bool | int = True,
        dtype: Any = jnp.float32,
        scan: bool = False,
        attention: Any = "plain",
        remat: bool = False,
        rngs: nnx.Rngs,
        **dimensions: Any,
    ):
        self.dimensions = d = sizes.resolve(**dimensions)
        self.encoder = Encoder(
            d,
            class_token=class_token,
            dtype=jnp.dtype(dtype),
            scan=scan,
            attention=attention,
            remat=remat,
            rngs=rngs,
        )
        self.projection = nnx.Linear(d.width, values, dtype=dtype, kernel_init=xavier, rngs=rngs)
        self.target = Features(values, norm_pix=False, size=values)
        self.class_target = nnx.data(
            Features(values, norm_pix=False, size=values) if class_taught else None
        )

    def losses(
        self, images: jax.Array, taught_BNV: jax.Array, class_BV: jax.Array | None = None
    ) -> jax.Array:
        """Of each image the loss, (B,) float32.

        The mean square over patches; where the class token is taught, the mean of that and of the
        same over it, so that one token that stands for the image is not drowned by hundreds that
        stand for its parts.

        Args:
          images: (B, *spatial, C) standardised.
          taught_BNV: the teacher's tokens of their patches.
          class_BV: its class tokens.
        """
        x_BND = self.encoder(images)
        said = self.projection(x_BND[:, self.encoder.tokens :]).astype(jnp.float32)
        losses = self.target.errors(said, taught_BNV).mean((1, 2))
        if self.class_target is None:
            return losses
        said = self.projection(self.encoder.class_features(x_BND)).astype(jnp.float32)
        return (losses + self.class_target.errors(said, class_BV).mean(1)) / 2
