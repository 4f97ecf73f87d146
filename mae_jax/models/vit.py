"""A classifier on the encoder that pre-training made."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import sizes, transformer
from mae_jax.models.encoder import Encoder


class VisionTransformer(nnx.Module):
    """Encoder, pooling, head.

    With mean pooling the patch tokens of the last block are averaged and then normalised by a new
    LayerNorm, `fc_norm`; the encoder's own last norm is left out. With the class token, that token
    is read after the encoder's last norm (paper, appendix A.1).

    Args:
      classes: how many logits.
      pool: "mean" or "token".
      Everything else as in `MaskedAutoencoder`.

    Raises:
      ValueError: dimensions that do not fit together, an unknown pooling, or no class token to
        read.
    """

    def __init__(
        self,
        size: str = "base",
        *,
        classes: int,
        image_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] | None = None,
        channels: int = 3,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        pool: str = "mean",
        class_token: bool = True,
        dtype: Dtype = jnp.float32,
        scan: bool = False,
        grouped: bool = False,
        rngs: nnx.Rngs,
    ):
        d = sizes.resolve(
            size,
            image_size=image_size,
            patch_size=patch_size,
            channels=channels,
            width=width,
            depth=depth,
            heads=heads,
        )
        if pool not in ("mean", "token"):
            raise ValueError(f"pool {pool!r} is unknown; known are mean, token")
        if pool == "token" and not class_token:
            raise ValueError("pool 'token' needs a model with class_token=True")
        self.dimensions = d
        self.pool, self.tokens = pool, int(class_token)
        self.encoder = Encoder(
            d,
            class_token=class_token,
            final_norm=pool == "token",
            trainable_positions=True,
            dtype=jnp.dtype(dtype),
            scan=scan,
            grouped=grouped,
            rngs=rngs,
        )
        self.fc_norm = nnx.data(
            transformer.layer_norm(d.width, jnp.dtype(dtype), rngs) if pool == "mean" else None
        )
        # The published recipe's head starts so small that the first logits are all but equal.
        small = nnx.initializers.truncated_normal(2e-5)
        self.head = nnx.Linear(d.width, classes, kernel_init=small, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        """(B, *spatial, C) standardised images to the (B, D) features the head reads."""
        x_BND = self.encoder(images)
        if self.pool == "token":
            return x_BND[:, 0]
        return self.fc_norm(x_BND[:, self.tokens :].mean(1))

    def __call__(self, images: jax.Array) -> jax.Array:
        """(B, *spatial, C) standardised images to (B, classes) float32 logits."""
        return self.head(self.features(images).astype(jnp.float32))
