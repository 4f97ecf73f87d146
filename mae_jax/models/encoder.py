"""The vision transformer encoder that pre-training and everything after it share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import patches, transformer
from mae_jax.models.fast import products, ways
from mae_jax.models.layers import LayerNorm, xavier
from mae_jax.models.sizes import Dimensions, check_images


class FixedTable(nnx.Variable):
    """A table that is saved with the model and counted, but not trained."""


class PatchEmbed(nnx.Module):
    """One linear map from a patch's pixels to a token; the kernel is (*patch, C, D)."""

    def __init__(self, d: Dimensions, *, dtype: Dtype, rngs: nnx.Rngs):
        shape = (*d.patch_size, d.channels, d.width)
        # Xavier over the matrix (P, D) that the kernel is, not over a convolution's fans.
        flat = xavier(rngs.params(), (int(np.prod(shape[:-1])), d.width), jnp.float32)
        self.kernel = nnx.Param(flat.reshape(shape))
        self.bias = nnx.Param(jnp.zeros(d.width, jnp.float32))
        self.dtype = dtype

    def __call__(self, patches_BNP: jax.Array) -> jax.Array:
        """(B, N, P) to (B, N, D)."""
        kernel_PD = self.kernel[...].reshape(-1, self.kernel.shape[-1]).astype(self.dtype)
        bias_D = self.bias[...].astype(self.dtype)
        return products.project(patches_BNP.astype(self.dtype), kernel_PD) + bias_D[None, None]


def position_table(d: Dimensions, width: int, class_tokens: int) -> jax.Array:
    """Sine-cosine positions, (1, T + N, width); the rows of the T class tokens are zero."""
    table = patches.sincos_positions(d.grid, width)
    if class_tokens:
        table = np.concatenate([np.zeros((class_tokens, width), np.float32), table])
    return jnp.asarray(table)[None]


class Encoder(nnx.Module):
    """Patches, positions, optional class tokens, blocks and the last LayerNorm.

    Forward-mode derivatives (`jax.jvp`) need `with mae_jax.forward_mode():`.

    Args:
      class_token: how many class tokens; True is one.
      registers: how many of the class tokens, the last of them, are registers (Darcet et al.,
        arXiv:2309.16588): tokens to compute with, which nobody reads.
      final_norm: False where a head brings its own norm instead.
      frozen: how many of the first blocks no gradient goes into, nor into what is before them.
      mask_token: whether hidden patches go through the encoder too, as a learned token (the
        paper's ablation in table 1c), instead of being left out.
      attention: how it is computed, one of `fast.ways` or its name.
      gelu: of its MLPs, as of `transformer.Mlp`.
    """

    def __init__(
        self,
        d: Dimensions,
        *,
        class_token: bool | int = True,
        registers: int = 0,
        final_norm: bool = True,
        mask_token: bool = False,
        trainable_positions: bool = False,
        frozen: int = 0,
        dtype: Dtype = jnp.float32,
        scan: bool = False,
        attention: str | ways.Way = "plain",
        gelu: str = "erf",
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.dimensions, self.dtype, self.frozen = d, dtype, frozen
        self.scan, self.remat, self.way = scan, remat, ways.named(attention)
        self.tokens = count = int(class_token)
        self.read_tokens = count - registers
        token = nnx.initializers.normal(0.02)
        self.patch_embed = PatchEmbed(d, dtype=dtype, rngs=rngs)
        self.cls_token = nnx.data(
            nnx.Param(token(rngs.params(), (1, count, d.width))) if count else None
        )
        self.mask_token = nnx.data(
            nnx.Param(token(rngs.params(), (1, 1, d.width))) if mask_token else None
        )
        kind = nnx.Param if trainable_positions else FixedTable
        self.pos_embed = kind(position_table(d, d.width, count))
        self.blocks = transformer.blocks(
            d.width, d.heads, d.depth, gelu=gelu, dtype=dtype, rngs=rngs
        )
        norm = LayerNorm(d.width, dtype=dtype, rngs=rngs) if final_norm else None
        self.norm = nnx.data(norm)

    def __call__(
        self,
        images: jax.Array,
        *,
        keep_BK: jax.Array | None = None,
        mask_BN: jax.Array | None = None,
        scales: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes standardised images.

        Args:
          images: (B, *spatial, C), for example (B, H, W, C).
          keep_BK: the patches to look at, in this order; all in raster order by default.
          mask_BN: 1 where the mask token stands in for a patch.
          scales: of the blocks' branches, (B, depth, 2); see `transformer.drop_path_scales`.

        Returns:
          (B, T + K, D): the class tokens first where there are some, then the patches.

        Raises:
          ValueError: images of another shape than the model's.
        """
        patches_BKP = self._cut(images)
        if keep_BK is not None:
            # Pixels are chosen before the projection: no work, and no gradient, for the rest.
            patches_BKP = patches.take(patches_BKP, keep_BK)
        return self.encode(patches_BKP, keep_BK=keep_BK, mask_BN=mask_BN, scales=scales)

    def encode(
        self,
        patches_BKP: jax.Array,
        *,
        keep_BK: jax.Array | None = None,
        mask_BN: jax.Array | None = None,
        scales: jax.Array | None = None,
    ) -> jax.Array:
        """What a call gives, from patches that are cut and chosen already.

        Args:
          patches_BKP: standardised.
          keep_BK: which these are; all in raster order by default.
          mask_BN: as in a call.
          scales: as in a call.
        """
        x_BND = self.embed(patches_BKP, keep_BK=keep_BK, mask_BN=mask_BN)
        shape, attend = x_BND.shape, self.way.attend
        if scales is None:  # else every sample needs a row of its own, to be scaled by
            x_BND, attend = self.way.arrange(x_BND, self.dimensions.heads)
        for part in (slice(0, self.frozen), slice(self.frozen, None)):
            if not len(self.blocks[part]):
                continue
            if part.start:
                x_BND = jax.lax.stop_gradient(x_BND)
            x_BND = transformer.apply_blocks(
                self.blocks[part],
                x_BND,
                scan=self.scan,
                remat=self.remat,
                scales=None if scales is None else scales[:, part],
                attend=attend,
            )
        if self.norm is not None:
            x_BND = self.norm(x_BND)
        return x_BND.reshape(shape)

    def layers(self, images: jax.Array, numbers: Sequence[int]) -> list[jax.Array]:
        """What blocks put out, each (B, T + N, D), through the last norm.

        The last norm is that of the last block, and no block before it was trained for it. It is
        applied to all of them as others do who read a ViT's blocks (timm's `forward_intermediates`,
        DINOv2's `get_intermediate_layers`): so features compare with theirs, and those of the last
        block are what a call gives.

        Args:
          images: as in a call.
          numbers: of the blocks, from 1; in any order.

        Raises:
          ValueError: images of another shape than the model's, or a block that there is none of.
        """
        if not all(1 <= number <= len(self.blocks) for number in numbers):
            raise ValueError(f"there are blocks 1 to {len(self.blocks)}, and not all of {numbers}")
        x_BND, found, done = self.embed(self._cut(images)), {}, 0
        shape = x_BND.shape
        x_BND, attend = self.way.arrange(x_BND, self.dimensions.heads)
        for number in sorted(set(numbers)):
            x_BND = transformer.apply_blocks(
                self.blocks[done:number], x_BND, scan=self.scan, attend=attend
            )
            normed = x_BND if self.norm is None else self.norm(x_BND)
            found[number], done = normed.reshape(shape), number
        return [found[number] for number in numbers]

    def attention(self, images: jax.Array) -> jax.Array:
        """How every token of the last block looks at every other, (B, H, T, T) float32.

        Args:
          images: (B, *spatial, C) standardised; T counts class tokens, which come first, and
            patches.

        Raises:
          ValueError: images of another shape than the model's.
        """
        x_BND = self.embed(self._cut(images))
        for block in self.blocks[:-1]:
            x_BND = block(x_BND)
        last = self.blocks[-1]
        return last.attn.weights(last.norm1(x_BND))

    def _cut(self, images):
        check_images(images, self.dimensions)
        return patches.patchify(images, self.dimensions.patch_size)

    def embed(
        self,
        patches_BKP: jax.Array,
        *,
        keep_BK: jax.Array | None = None,
        mask_BN: jax.Array | None = None,
    ) -> jax.Array:
        """What the first block reads, (B, T + K, D); arguments as of `encode`."""
        tokens = self.tokens
        pos_embed = self.pos_embed[...].astype(self.dtype)
        pos_BND = pos_embed[:, tokens:]
        if keep_BK is not None:
            pos_BND = pos_BND[0][keep_BK]
        x_BND = self.patch_embed(patches_BKP)
        if mask_BN is not None:
            hidden = self.mask_token[...].astype(self.dtype)
            x_BND = jnp.where(mask_BN[..., None] > 0, hidden, x_BND)
        x_BND = x_BND + jnp.broadcast_to(pos_BND, x_BND.shape)
        if tokens:
            cls = self.cls_token[...].astype(self.dtype) + pos_embed[:, :tokens]
            cls = jnp.broadcast_to(cls, (x_BND.shape[0], tokens, cls.shape[-1]))
            x_BND = jnp.concatenate([cls, x_BND], axis=1)
        return x_BND

    def mean_patches(self, images: jax.Array) -> jax.Array:
        """Of standardised images (B, D) float32: patch tokens, nothing hidden, averaged."""
        return self(images)[:, self.tokens :].astype(jnp.float32).mean(1)

    def class_features(self, x_BND: jax.Array) -> jax.Array:
        """Of the encoder's output, (B, D): the class token, or the mean of several."""
        if self.read_tokens == 1:
            return x_BND[:, 0]
        return x_BND[:, : self.read_tokens].mean(1)
