"""The masked autoencoder (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import masking, patches, sizes, targets
from mae_jax.models.decoder import DECODERS
from mae_jax.models.encoder import Encoder
from mae_jax.models.fast import ways


class Output(NamedTuple):
    """What a forward pass gives.

    Attributes:
      loss: scalar float32, mean over images of the mean over their hidden patches, or over all of
        them.
      pred: (B, N, P) float32, predictions for all patches in raster order; of another target than
        pixels as many numbers as that has.
      mask: (B, N) float32, 1 where a patch was hidden.
      latent: (B, T + K, D), the encoder's output, class tokens first, visible patches in the
        order of their noise (all patches in raster order with mask tokens in the encoder).
    """

    loss: jax.Array
    pred: jax.Array
    mask: jax.Array
    latent: jax.Array


class MaskedAutoencoder(nnx.Module):
    """Asymmetric encoder and decoder; the encoder sees only the visible patches.

    Forward-mode derivatives (`jax.jvp`) need `with mae_jax.forward_mode():`.

    Args:
      size: tiny, small, base, large or huge; any dimension given by hand takes precedence.
      image_size: pixels, one number or one per axis (height, width).
      patch_size: pixels, one number or one per axis.
      channels: values per pixel.
      mask_ratio: share of the patches that is hidden, unless a call says otherwise.
      sampling: "random", "block" or "grid" (paper, table 1f), or a function like those of
        `masking`. A name of another form, FILE:NAME, says where such a function was: without it
        a call needs `noise`.
      mask_unit: patches along every axis that are hidden together, or none of them.
      loss_on: "hidden" patches, or "all".
      decode_ratio: share of the hidden patches that `loss` is of and the decoder works on; a call
        predicts all.
      decoder_attention: "self", every token of the decoder looks at all; or "cross", hidden
        patches look at visible ones alone (`decoder.CrossDecoder`).
      norm_pix: whether the target is normalised by each patch's own mean and deviation.
      target: what is predicted of a patch, "pixels", "pca", "tokens" or "features"; see `targets`.
      target_size: how many PCA coefficients, different tokens, or numbers of a teacher's token.
      class_token: whether a class token goes along, or how many.
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
        sampling: str | masking.Sampling = "random",
        mask_unit: int = 1,
        loss_on: str = "hidden",
        decode_ratio: float = 1.0,
        decoder_attention: str = "self",
        norm_pix: bool = True,
        target: str = "pixels",
        target_size: int | None = None,
        class_token: bool | int = True,
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
        sizes.check_mask_ratio(mask_ratio, d.grid, mask_unit)
        if not callable(sampling) and ":" not in sampling:
            masking.check_known(sampling)
        self.dimensions = d
        self.mask_ratio, self.sampling, self.mask_unit = mask_ratio, sampling, mask_unit
        if loss_on not in ("hidden", "all"):
            raise ValueError(f"loss_on {loss_on!r} is unknown; known are hidden, all")
        sizes.check_decoding(decode_ratio, decoder_attention, loss_on, mask_tokens_in_encoder)
        self.loss_on, self.norm_pix, self.decode_ratio = loss_on, norm_pix, decode_ratio
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
        pixels = math.prod(d.patch_size) * d.channels
        self.target = targets.make(target, pixels, norm_pix=norm_pix, size=target_size)
        values = self.target.values
        self.decoder = DECODERS[decoder_attention](
            d, values, mask_token=not mask_tokens_in_encoder, **common
        )

    def __call__(
        self,
        images: jax.Array,
        *,
        mask_ratio: float | None = None,
        key: jax.Array | None = None,
        noise: jax.Array | None = None,
        codes: jax.Array | None = None,
        known: jax.Array | None = None,
    ) -> Output:
        """Hides patches, encodes the rest, predicts the hidden ones.

        Args:
          images: (B, *spatial, C) standardised, for example (B, H, W, C).
          mask_ratio: share of hidden patches; the model's own by default.
          key: draws a mask for each sample by the model's sampling.
          noise: (B, N), instead of a key: the patches of lowest noise stay visible. A mask of
            one's own (1 = hidden) is such a noise.
          codes: what a model of tokens is to predict, (B, N), or one of features, (B, N, values).
          known: (B, *spatial, C), which values of the images have data; all by default. The others
            are in neither target nor loss, whatever they are, and the encoder sees 0 for them. An
            image's loss is then the mean over those of its hidden values that have data.

        Raises:
          ValueError: neither or both of `key` and `noise`, no codes where they are needed, images
            of another shape, or `known` with a target of whole patches.
        """
        images = self._with_data(images, known)
        ratio = self.mask_ratio if mask_ratio is None else mask_ratio
        sizes.check_mask_ratio(ratio, self.dimensions.grid, self.mask_unit)
        masks = self.draw_masks(images, mask_ratio=ratio, key=key, noise=noise)
        latent = self.encode(images, masks)
        pred = self.decode(latent, masks)
        loss_B = self.losses(images, pred, masks.mask_BN, codes=codes, known=known)
        return Output(loss_B.mean(), pred, masks.mask_BN, latent)

    def loss(
        self,
        images: jax.Array,
        *,
        noise: jax.Array,
        standardise: Callable[[jax.Array], jax.Array] = lambda patches: patches,
        known: Callable[[jax.Array], jax.Array | None] = lambda patches: None,
        codes: jax.Array | None = None,
    ) -> jax.Array:
        """The loss of a call, scalar float32, from predictions of the patches it is of alone.

        With a `decode_ratio` below 1 it is the mean over so many of the hidden patches, those of
        lowest noise.

        Args:
          images: (B, *spatial, C), of any type that `standardise` takes.
          noise: (B, N), as of a call.
          standardise: makes of patches, (B, any, P), what a call would have. Images of bytes are
            cut into patches, and those chosen, in a quarter of the memory.
          known: which values of patches, as `standardise` takes them, have data; None: all. Of the
            others it makes any finite numbers.
          codes: as of a call.
        """
        masks = self.draw_masks(images, mask_ratio=self.mask_ratio, noise=noise)
        decoded = masking.decoded_patches(masks.hide_BM.shape[1], self.decode_ratio)
        masks = masks._replace(hide_BM=masks.hide_BM[:, :decoded])
        patches_BNP = patches.patchify(images, self.dimensions.patch_size)
        if self.mask_tokens_in_encoder:
            seen, where = patches_BNP, dict(mask_BN=masks.mask_BN)
        else:
            seen, where = patches.take(patches_BNP, masks.keep_BK), dict(keep_BK=masks.keep_BK)
        latent = self.encoder.encode(standardise(seen), **where)
        hidden = self.loss_on == "hidden"
        pred = self.decoder(latent, masks, hidden=hidden)
        if codes is None:
            values = patches.take(patches_BNP, masks.hide_BM) if hidden else patches_BNP
            told = known(values)
            true = self.target(standardise(values).astype(jnp.float32), told)
        else:
            true, told = patches.take(codes, masks.hide_BM) if hidden else codes, None
        errors = self.target.errors(pred, true)
        if told is None:
            return errors.mean()
        self._check_separable()
        return (jnp.where(told, errors, 0).sum((1, 2)) / jnp.maximum(told.sum((1, 2)), 1)).mean()

    def draw_masks(
        self,
        images: jax.Array,
        *,
        mask_ratio: float,
        key: jax.Array | None = None,
        noise: jax.Array | None = None,
    ) -> masking.Masking:
        """One mask per image, from a key or from given noise (B, N)."""
        d, unit = self.dimensions, self.mask_unit
        sizes.check_images(images, d)
        if (key is None) == (noise is None):
            raise ValueError("masks need either a key or noise, and not both")
        if noise is None:
            noise = masking.draw(self.sampling, key, images.shape[0], d.grid, unit)
        elif noise.shape != (images.shape[0], d.patches):
            raise ValueError(f"noise of shape {noise.shape} must be {(images.shape[0], d.patches)}")
        together = unit ** len(d.grid)
        return masking.from_noise(noise, masking.kept_patches(d.patches, mask_ratio, together))

    def encode(self, images: jax.Array, masks: masking.Masking) -> jax.Array:
        """The encoder's output for the visible patches; see `Output.latent`."""
        if self.mask_tokens_in_encoder:
            return self.encoder(images, mask_BN=masks.mask_BN)
        return self.encoder(images, keep_BK=masks.keep_BK)

    def decode(self, latent: jax.Array, masks: masking.Masking) -> jax.Array:
        """Predictions for all patches, as `Output.pred`, from the encoder's output."""
        return self.decoder(latent, masks, hidden=False)

    def patch_errors(
        self,
        images: jax.Array,
        pred: jax.Array,
        codes: jax.Array | None = None,
        known: jax.Array | None = None,
    ) -> jax.Array:
        """Error of each patch, (B, N) float32, against the target; of pixels the mean square.

        Args:
          images: as of a call; so are `codes` and `known`.
          pred: its predictions.
        """
        sizes.check_images(images, self.dimensions)
        if codes is not None:
            return self.target.errors(pred, codes).mean(-1)
        images = self._with_data(images, known)
        true = patches.patchify(images.astype(jnp.float32), self.dimensions.patch_size)
        if known is None:
            return self.target.errors(pred, self.target(true)).mean(-1)
        told = patches.patchify(known, self.dimensions.patch_size)
        errors = jnp.where(told, self.target.errors(pred, self.target(true, told)), 0)
        return errors.sum(-1) / jnp.maximum(told.sum(-1), 1)

    def losses(
        self,
        images: jax.Array,
        pred: jax.Array,
        mask_BN: jax.Array,
        *,
        codes: jax.Array | None = None,
        known: jax.Array | None = None,
    ) -> jax.Array:
        """Of each image the loss, (B,) float32; 0 where nothing that it is of has data.

        Args:
          images: as of a call; so are `codes` and `known`.
          pred: what it gave; so is `mask_BN`.
        """
        counts = mask_BN if self.loss_on == "hidden" else jnp.ones_like(mask_BN)
        if known is not None:
            counts *= patches.patchify(known, self.dimensions.patch_size).mean(-1)
        total = (self.patch_errors(images, pred, codes, known) * counts).sum(1)
        return total / jnp.maximum(counts.sum(1), jnp.finfo(jnp.float32).tiny)

    def _with_data(self, images, known):
        """Images with 0 where they have no data."""
        if known is None:
            return images
        self._check_separable()
        return jnp.where(known, images, 0)

    def _check_separable(self):
        if not self.target.separable:
            raise ValueError("a target of whole patches cannot leave out values without data")

    def predicted_images(
        self, images: jax.Array, output: Output, known: jax.Array | None = None
    ) -> jax.Array:
        """Reconstructions (B, *spatial, C): visible patches pasted back, norm-pix undone.

        With a norm-pix target the model predicts a patch only up to its mean and deviation; those
        of the true patch are used, for pictures only (paper, figure 2 shows raw-pixel models).

        Raises:
          ValueError: the target cannot be drawn, or images of another shape.
        """
        d = self.dimensions
        sizes.check_images(images, d)
        images = self._with_data(images, known)
        truth = patches.patchify(images.astype(jnp.float32), d.patch_size)
        told = None if known is None else patches.patchify(known, d.patch_size)
        pred = self.target.picture(output.pred, truth, told)
        filled = jnp.where(output.mask[..., None] > 0, pred, truth)
        return patches.unpatchify(filled, d.grid, d.patch_size)
