"""Models and encoders from any SOURCE."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.errors import UsageError
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read

OUTPUTS = ("mean", "token", "patches")


def load(
    source: str | Path,
    *,
    step: int | None = None,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    norm_pix: bool | None = None,
    dtype: Any = jnp.float32,
    scan: bool = False,
) -> MaskedAutoencoder | VisionTransformer:
    """The model a source holds: a masked autoencoder, or a classifier.

    Args:
      source: a work folder, a `.pth`, `.safetensors` or `.npz` file, a folder of transformers' or
        timm's.
      step: which checkpoint of a work folder; the latest by default.
      image_size: of the images it will get; positions are resized to it. Also says how the
        patches lie where nothing else does.
      patch_size, heads, decoder_heads, norm_pix: where the source does not say them and its
        width does not settle them.
      dtype: of the computation.
      scan: run the blocks as one scanned block, which compiles faster.

    Raises:
      UsageError: what `read` says, or the source holds an encoder and nothing else.
    """
    weights = read(
        source,
        step=step,
        image_size=image_size,
        patch_size=patch_size,
        heads=heads,
        decoder_heads=decoder_heads,
        norm_pix=norm_pix,
    )
    return whole(weights.resized(image_size), source, dtype=dtype, scan=scan)


def whole(weights: Weights, source: Any, **options: Any) -> MaskedAutoencoder | VisionTransformer:
    """As `load`, from weights that were read."""
    if weights.kind == "encoder":
        raise UsageError(
            f"{str(source)!r} holds an encoder alone, without decoder_* and head; "
            "mae_jax.load_encoder loads it"
        )
    return model_lib.build(weights, **options)


class PretrainedEncoder:
    """Images to features, in batches of any size.

    Attributes:
      encoder: the model itself, which takes standardised images and gives all tokens.
      weights: what is known of it: dimensions, mean and std, origin.
    """

    def __init__(self, weights: Weights, *, dtype: Any = jnp.float32, batch_size: int = 64):
        # A mean-pooling classifier's `fc_norm` goes along, as it normalises the mean.
        self.weights, self._batch_size = weights, batch_size
        holder = model_lib.build(weights.encoder(), dtype=dtype, scan=True)
        self.encoder = holder.encoder
        self._graphdef, self._state = nnx.split(holder)

    def __call__(
        self, images: np.ndarray | jax.Array, output: str = "mean", *, any_range: bool = False
    ) -> np.ndarray:
        """Features of images, float32.

        Args:
          images: (B, H, W, C) uint8, or floats in 0 to 1; without B, one image.
          output: "mean" of the patch tokens, (B, D); "token", the class token, (B, D); or
            "patches", (B, N, D). All after the encoder's last norm; a mean-pooling classifier
            has none, and its mean goes through its `fc_norm` as its head's input does.
          any_range: floats are in what the weights' mean and deviation are in, which need not be
            0 to 1.

        Raises:
          UsageError: images of another size, or values out of range.
        """
        self.check_output(output)
        return self._mapped(images, functools.partial(_features, output=output), any_range)

    def check_output(self, output: str) -> None:
        """Raises UsageError for an output that is unknown, or that this encoder has not."""
        if output not in OUTPUTS:
            raise UsageError(f"output {output!r} is unknown; known are {', '.join(OUTPUTS)}")
        if output == "token" and not self.weights.class_token:
            raise UsageError("output 'token' needs a model with a class token")

    def attention(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """How the last block's class token looks at the patches, (B, heads, N) float32.

        Raises:
          UsageError: as in a call; or there is no class token.
        """
        if not self.weights.class_token:
            raise UsageError("attention of the class token needs a model with a class token")
        return self._mapped(images, _attention)

    def _mapped(self, images, function, any_range=False) -> np.ndarray:
        images = np.asarray(images)
        single = images.ndim == 3
        images = _checked(images[None] if single else images, self.weights, any_range)
        made = []
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            # Padded to a power of two, so that few programs are compiled.
            size = min(self._batch_size, 1 << (len(part) - 1).bit_length())
            padded = np.pad(part, [(0, size - len(part))] + [(0, 0)] * 3, "edge")
            values = function(
                self._graphdef, self._state, padded, self.weights.mean, self.weights.std
            )
            made.append(np.asarray(values)[: len(part)])
        return made[0][0] if single else np.concatenate(made)


def _checked(images, weights, any_range):
    d = weights.dimensions
    if images.shape[1:] != (*d.image_size, d.channels) or not len(images):
        raise UsageError(
            f"images of shape {images.shape} do not fit the encoder; it takes (B, "
            f"{', '.join(map(str, d.image_size))}, {d.channels}), and image_size= and channels= "
            "change that"
        )
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float32)
    low, high = images.min(), images.max()
    if not any_range and not (low >= -0.01 and high <= 1.01):
        raise UsageError(
            f"float images from {low:.3g} to {high:.3g} must be pixels in 0 to 1; uint8 ones may "
            "be 0 to 255, and `.encoder` takes images that are standardised already"
        )
    return images


def standardise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(B, *spatial, C) uint8, or floats in 0 to 1, to zero mean and unit deviation."""
    shape = (1,) * (images.ndim - 1) + (len(mean),)
    pixels = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        pixels = pixels / 255
    mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (mean, std))
    return (pixels - mean) / std


@functools.partial(jax.jit, static_argnums=(0, 3, 4), static_argnames="output")
def _features(graphdef, state, images, mean, std, *, output):
    holder = nnx.merge(graphdef, state)
    x_BND = holder.encoder(standardise(images, mean, std)).astype(jnp.float32)
    return pooled(holder, x_BND, output)


def pooled(holder: nnx.Module, x_BND: jax.Array, output: str) -> jax.Array:
    """Of an encoder's output, what `PretrainedEncoder` is asked for."""
    first = 0 if holder.encoder.cls_token is None else 1
    if output == "token":
        return x_BND[:, 0]
    if output == "patches":
        return x_BND[:, first:]
    mean = x_BND[:, first:].mean(1)
    return mean if holder.fc_norm is None else holder.fc_norm(mean).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _attention(graphdef, state, images, mean, std):
    encoder = nnx.merge(graphdef, state).encoder
    return encoder.attention(standardise(images, mean, std))[:, :, 0, 1:]


def load_encoder(
    source: str | Path,
    *,
    step: int | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    patch_size: int | Sequence[int] | None = None,
    heads: int | None = None,
    dtype: Any = jnp.float32,
    batch_size: int = 64,
) -> PretrainedEncoder:
    """The encoder of any source, as a function from images to features.

    Args:
      image_size: of the images; positions are resized to it.
      channels: of the images; the patch projection is adapted (`Weights.with_channels`).
      batch_size: images that go through at a time.
      Everything else as in `load`.

    Raises:
      UsageError: what `read` says.
    """
    weights = read(
        source, step=step, part="encoder", image_size=image_size, patch_size=patch_size, heads=heads
    )
    return encoder_of(
        weights, image_size=image_size, channels=channels, dtype=dtype, batch_size=batch_size
    )


def encoder_of(
    weights: Weights, *, image_size: Any = None, channels: int | None = None, **options: Any
) -> PretrainedEncoder:
    """As `load_encoder`, from weights that were read."""
    return PretrainedEncoder(
        weights.encoder().resized(image_size).with_channels(channels), **options
    )
