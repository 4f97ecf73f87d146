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
    LayerNorm, `fc_norm`; the encoder's own last norm is left out, as in the published code's
    fine-tuning. With the class token, that token is read after the encoder's last norm, as in the
    paper (appendix A.1); of several, their mean (as in Pixio).

    Forward-mode derivatives (`jax.jvp`) need `with mae_jax.forward_mode():`. What is not said
    here is as in `MaskedAutoencoder`.

    Args:
      classes: how many logits.
      pool: "mean" or "token".
      normalise_head: whether a BatchNorm without scale and shift stands before the head, as in the
        paper's linear probe.
      frozen: how many of the first blocks no gradient goes into, nor into what is before them.
      gelu: as of `transformer.Mlp`.

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
        class_token: bool | int = True,
        normalise_head: bool = False,
        frozen: int = 0,
        dtype: Dtype = jnp.float32,
        scan: bool = False,
        attention: str | ways.Way = "plain",
        gelu: str = "erf",
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
            gelu=gelu,
            remat=remat,
            rngs=rngs,
        )
        self.fc_norm = nnx.data(
            LayerNorm(d.width, dtype=dtype, rngs=rngs) if pool == "mean" else None
        )
        self.head_norm = nnx.data(BatchNorm(d.width, rngs=rngs) if normalise_head else None)
        # The published fine-tuning's head starts so small that the first logits are all but equal.
        # timm cuts that normal distribution off at 2, a hundred thousand deviations away.
        init = nnx.initializers.normal(0.01 if normalise_head else 2e-5)
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
            return self.encoder.class_features(x_BND)
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
        return self.classify(self.features(images, scales), train=train)

    def classify(self, features_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """What `features` gives to (B, classes) float32 logits; `train` as in `__call__`."""
        features_BD = features_BD.astype(jnp.float32)
        if self.head_norm is not None:
            features_BD = self.head_norm(features_BD, train=train)
        return self.head(features_BD)


class BatchNorm(nnx.BatchNorm):
    """BatchNorm (Ioffe & Szegedy 2015) without scale and shift, as torch has it.

    Flax's running variance is of the batch as it is; torch's is the unbiased estimate.

    Args:
      width: of the last axis.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        super().__init__(
            width,
            momentum=0.9,
            epsilon=1e-6,
            use_scale=False,
            use_bias=False,
            use_fast_variance=False,
            rngs=rngs,
        )

    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        """(B, D) to the same, by its own statistics in training, else by the running ones."""
        before = self.var[...]
        y_BD = super().__call__(x_BD, use_running_average=not train)
        if train:
            unbiased = x_BD.var(0) * len(x_BD) / max(len(x_BD) - 1, 1)
            self.var[...] = self.momentum * before + (1 - self.momentum) * unbiased
        return y_BD
