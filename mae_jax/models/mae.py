"""The masked autoencoder (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import masking, patches, sizes, transformer
from mae_jax.models.encoder import Encoder, FixedTable, position_table
from mae_jax.models.fast import ways
from mae_jax.models.layers import LayerNorm, Linear


class Output(NamedTuple):
    """What a forward pass gives.

    Attributes:
      loss: scalar float32, mean over the hidden patches of the batch.
      pred: (B, N, P) float32, predictions for all patches in raster order.
      mask: (B, N) float32, 1 where a patch was hidden.
      latent: (B, [1 +] K, D), the encoder's output, class token first, visible patches in the
        order of their noise (all patches in raster order with mask tokens in the encoder).
    """

    loss: jax.Array
    pred: jax.Array
    mask: jax.Array
    latent: jax.Array


class Decoder(nnx.Module):
    """Light transformer from visible tokens and mask tokens to the pixels of patches."""

    def __init__(
        self,
        d: sizes.Dimensions,
        *,
        class_token: bool,
        mask_token: bool,
        dtype: Dtype,
        scan: bool,
        attention: str | ways.Way,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        width, values = d.decoder_width, math.prod(d.patch_size) * d.channels
        self.tokens, self.dtype = int(class_token), dtype
        self.scan, self.remat, self.way = scan, remat, ways.named(attention)
        common = dict(dtype=dtype, rngs=rngs)
        self.embed = Linear(d.width, width, **common)
        token = nnx.initializers.normal(0.02)
        self.mask_token = nnx.data(
            nnx.Param(token(rngs.params(), (1, 1, width))) if mask_token else None
        )
        self.pos_embed = FixedTable(position_table(d, width, class_token))
        self.blocks = transformer.blocks(width, d.decoder_heads, d.decoder_depth, **common)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.pred = Linear(width, values, **common)

    def __call__(self, latent: jax.Array, masks: masking.Masking, *, hidden: bool) -> jax.Array:
        """Encoder output (B, [1 +] K, D) to float32 predictions.

        Args:
          latent: of the visible patches, or of all in raster order if the encoder saw mask tokens.
          masks: which patches those are.
          hidden: only the hidden patches (B, M, P), in the order of `masks.hide_BM`, which is all
            the loss needs; else all patches (B, N, P) in raster order.
        """
        x_BND, pos_embed = self.embed(latent), self.pos_embed[0].astype(self.dtype)
        # Attention does not mind the order. With hidden patches first, the last block can leave
        # out the rest; and what is looked up is a table without a gradient. Number 0 is the class
        # token, before all patches, where there is one.
        hide_BM = masks.hide_BM + self.tokens
        seen_BK = jnp.pad(masks.keep_BK + self.tokens, ((0, 0), (self.tokens, 0)))
        if self.mask_token is None:
            hidden_BMD, x_BND = patches.take(x_BND, hide_BM), patches.take(x_BND, seen_BK)
        else:
            hidden_BMD = self.mask_token[...].astype(self.dtype)
        hidden_BMD, x_BND = hidden_BMD + pos_embed[hide_BM], x_BND + pos_embed[seen_BK]
        count = hide_BM.shape[1]
        x_BND = transformer.apply_blocks(
            self.blocks,
            jnp.concatenate([hidden_BMD, x_BND], axis=1),
            scan=self.scan,
            remat=self.remat,
            attend=self.way.attend,
            queries=count if hidden else None,
        )
        if not hidden:
            x_BND = jnp.concatenate([x_BND[:, count + self.tokens :], x_BND[:, :count]], axis=1)
            x_BND = patches.take(x_BND, masks.restore_BN)
        return self.pred(self.norm(x_BND)).astype(jnp.float32)


class MaskedAutoencoder(nnx.Module):
    """Asymmetric encoder and decoder; the encoder sees only the visible patches.

    Forward-mode derivatives (`jax.jvp`) need `with mae_jax.forward_mode():`.

    Args:
      size: tiny, small, base, large or huge; any dimension given by hand takes precedence.
      image_size: pixels, one number or one per axis (height, width).
      patch_size: pixels, one number or one per axis.
      channels: values per pixel.
      mask_ratio: share of the patches that is hidden, unless a call says otherwise.
      sampling: "random", "block" or "grid" (paper, table 1f).
      norm_pix: whether the target is normalised by each patch's own mean and deviation.
      class_token: whether a class token goes along.
      mask_tokens_in_encoder: whether hidden patches go through the encoder as mask tokens
        (paper, table 1c) instead of being left out.
      dtype: of the computation; parameters are float32.
      scan: run the blocks as one scanned block, which compiles faster.
      attention: how it is computed, the same numbers to rounding: one of `fast.ways` or its name,
        "plain", "grouped" (for TPUs) or "packed" (for a single CPU).
      remat: compute blocks again for the gradient instead of storing what is inside.

    Raises:
      ValueError: dimensions that do not fit together, or a mask ratio that hides nothing or all.
    """

    def __init__(
        self,
        size: str = "base",
        *,
        image_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] | None = None,
        channels: int = 3,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        decoder_width: int | None = None,
        decoder_depth: int | None = None,
        decoder_heads: int | None = None,
        mask_ratio: float = 0.75,
        sampling: str = "random",
        norm_pix: bool = True,
        class_token: bool = True,
        mask_tokens_in_encoder: bool = False,
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
            decoder_width=decoder_width,
            decoder_depth=decoder_depth,
            decoder_heads=decoder_heads,
        )
        sizes.check_mask_ratio(mask_ratio, d.patches)
        if sampling not in masking.SAMPLINGS:
            raise ValueError(
                f"sampling {sampling!r} is unknown; known are {', '.join(masking.SAMPLINGS)}"
            )
        self.dimensions = d
        self.mask_ratio, self.sampling, self.norm_pix = mask_ratio, sampling, norm_pix
        self.mask_tokens_in_encoder = mask_tokens_in_encoder
        common = dict(
            class_token=class_token,
            dtype=jnp.dtype(dtype),
            scan=scan,
            attention=attention,
            remat=remat,
            rngs=rngs,
        )
        self.encoder = Encoder(d, mask_token=mask_tokens_in_encoder, **common)
        self.decoder = Decoder(d, mask_token=not mask_tokens_in_encoder, **common)

    def __call__(
        self,
        images: jax.Array,
        *,
        mask_ratio: float | None = None,
        key: jax.Array | None = None,
        noise: jax.Array | None = None,
    ) -> Output:
        """Hides patches, encodes the rest, predicts the hidden ones.

        Args:
          images: (B, *spatial, C) standardised, for example (B, H, W, C).
          mask_ratio: share of hidden patches; the model's own by default.
          key: draws a mask for each sample by the model's sampling.
          noise: (B, N), instead of a key: the patches of lowest noise stay visible. A mask of
            one's own (1 = hidden) is such a noise.

        Raises:
          ValueError: neither or both of `key` and `noise`, or images of another shape.
        """
        ratio = self.mask_ratio if mask_ratio is None else mask_ratio
        sizes.check_mask_ratio(ratio, self.dimensions.patches)
        masks = self.draw_masks(images, mask_ratio=ratio, key=key, noise=noise)
        latent = self.encode(images, masks)
        pred = self.decode(latent, masks)
        error_BN = self.patch_errors(images, pred)
        loss = (error_BN * masks.mask_BN).sum() / masks.mask_BN.sum()
        return Output(loss, pred, masks.mask_BN, latent)

    def loss(
        self,
        images: jax.Array,
        *,
        noise: jax.Array,
        standardise: Callable[[jax.Array], jax.Array] = lambda patches: patches,
    ) -> jax.Array:
        """The loss of a call, scalar float32, from predictions of the hidden patches alone.

        Args:
          images: (B, *spatial, C), of any type that `standardise` takes.
          noise: (B, N), as of a call.
          standardise: makes of patches, (B, any, P), what a call would have. Images of bytes are
            cut into patches, and those chosen, in a quarter of the memory.
        """
        masks = self.draw_masks(images, mask_ratio=self.mask_ratio, noise=noise)
        patches_BNP = patches.patchify(images, self.dimensions.patch_size)
        if self.mask_tokens_in_encoder:
            seen, where = patches_BNP, dict(mask_BN=masks.mask_BN)
        else:
            seen, where = patches.take(patches_BNP, masks.keep_BK), dict(keep_BK=masks.keep_BK)
        latent = self.encoder.encode(standardise(seen), **where)
        pred_BMP = self.decoder(latent, masks, hidden=True)
        hidden = standardise(patches.take(patches_BNP, masks.hide_BM)).astype(jnp.float32)
        return jnp.square(pred_BMP - self._target(hidden)).mean()

    def draw_masks(
        self,
        images: jax.Array,
        *,
        mask_ratio: float,
        key: jax.Array | None = None,
        noise: jax.Array | None = None,
    ) -> masking.Masking:
        """One mask per image, from a key or from given noise (B, N)."""
        d = self.dimensions
        sizes.check_images(images, d)
        if (key is None) == (noise is None):
            raise ValueError("masks need either a key or noise, and not both")
        if noise is None:
            noise = masking.SAMPLINGS[self.sampling](key, images.shape[0], d.grid)
        elif noise.shape != (images.shape[0], d.patches):
            raise ValueError(f"noise of shape {noise.shape} must be {(images.shape[0], d.patches)}")
        return masking.from_noise(noise, masking.kept_patches(d.patches, mask_ratio))

    def encode(self, images: jax.Array, masks: masking.Masking) -> jax.Array:
        """The encoder's output for the visible patches; see `Output.latent`."""
        if self.mask_tokens_in_encoder:
            return self.encoder(images, mask_BN=masks.mask_BN)
        return self.encoder(images, keep_BK=masks.keep_BK)

    def decode(self, latent: jax.Array, masks: masking.Masking) -> jax.Array:
        """Predictions (B, N, P) for all patches from the encoder's output."""
        return self.decoder(latent, masks, hidden=False)

    def patch_errors(self, images: jax.Array, pred: jax.Array) -> jax.Array:
        """Mean squared error of each patch, (B, N) float32, against the target."""
        sizes.check_images(images, self.dimensions)
        target = patches.patchify(images.astype(jnp.float32), self.dimensions.patch_size)
        return jnp.square(pred - self._target(target)).mean(-1)

    def _target(self, patches_BNP):
        if not self.norm_pix:
            return patches_BNP
        mean, deviation = patches.moments(patches_BNP)
        return (patches_BNP - mean) / deviation

    def predicted_images(self, images: jax.Array, output: Output) -> jax.Array:
        """Reconstructions (B, *spatial, C): visible patches pasted back, norm-pix undone.

        With a norm-pix target the model predicts a patch only up to its mean and deviation; those
        of the true patch are used, for pictures only (paper, figure 2 shows raw-pixel models).
        """
        d = self.dimensions
        sizes.check_images(images, d)
        truth = patches.patchify(images.astype(jnp.float32), d.patch_size)
        pred = output.pred
        if self.norm_pix:
            mean, deviation = patches.moments(truth)
            pred = pred * deviation + mean
        filled = jnp.where(output.mask[..., None] > 0, pred, truth)
        return patches.unpatchify(filled, d.grid, d.patch_size)
