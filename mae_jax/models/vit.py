"""A classifier on the encoder that pre-training made."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import sizes
from mae_jax.models.encoder import Encoder
from mae_jax.models.fast import ways
from mae_jax.models.layers import LayerNorm


class VisionTransformer(nnx.Module):
    """Encoder, pooling, head.

    With mean pooling the patch tokens of the last block are averaged and then normalised by a new
    LayerNorm, `fc_norm`; the encoder's own last norm is left out. With the class token, that token
    is read after the encoder's last norm (paper, appendix A.1).

    Args:
      classes: how many logits.
      pool: "mean" or "token".
      normalise_head: whether a BatchNorm without scale and shift stands before the head, as in the
        paper's linear probe.
      frozen: how many of the first blocks no gradient goes into, nor into what is before them.
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
        normalise_head: bool = False,
        frozen: int = 0,
        dtype: Dtype = jnp.float32,
        scan: bool = False,
        attention: str | ways.Way = "plain",
        remat: bool = False,
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
            frozen=frozen,
            dtype=jnp.dtype(dtype),
            scan=scan,
            attention=attention,
            remat=remat,
            rngs=rngs,
        )
        self.fc_norm = nnx.data(
            LayerNorm(d.width, dtype=dtype, rngs=rngs) if pool == "mean" else None
        )
        norm = None
        if normalise_head:
            norm = nnx.BatchNorm(
                d.width,
                momentum=0.9,
                epsilon=1e-6,
                use_scale=False,
                use_bias=False,
                use_fast_variance=False,
                rngs=rngs,
            )
        self.head_norm = nnx.data(norm)
        # The published recipe's head starts so small that the first logits are all but equal.
        small = nnx.initializers.truncated_normal(2e-5)
        init = nnx.initializers.normal(0.01) if normalise_head else small
        self.head = nnx.Linear(d.width, classes, kernel_init=init, rngs=rngs)

    def features(self, images: jax.Array, scales: jax.Array | None = None) -> jax.Array:
        """(B, *spatial, C) standardised images to the (B, D) features the head reads.

        Args:
          scales: of the blocks' branches, (B, depth, 2); see `transformer.drop_path_scales`.

        Raises:
          ValueError: images of another shape than the model's.
        """
        x_BND = self.encoder(images, scales=scales)
        if self.pool == "token":
            return x_BND[:, 0]
        return self.fc_norm(x_BND[:, self.tokens :].mean(1))

    def __call__(
        self, images: jax.Array, scales: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """(B, *spatial, C) standardised images to (B, classes) float32 logits.

        Args:
          scales: as in `features`.
          train: whether the head's BatchNorm takes its statistics from these images, and moves its
            running ones a tenth of the way.
        """
        features = self.features(images, scales).astype(jnp.float32)
        if self.head_norm is not None:
            features = self.head_norm(features, use_running_average=not train)
        return self.head(features)
