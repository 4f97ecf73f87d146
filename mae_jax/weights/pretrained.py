"""Pre-trained models as functions of images, on all devices of this process."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.data import arrays
from mae_jax.data.form import Form
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.models.fast import ways
from mae_jax.parallel import Layout, Split
from mae_jax.pixels import Pixels
from mae_jax.train import compilation
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights

OUTPUTS = ("mean", "token", "patches")
_MOST = 64  # images at a time on a device, and what they have of tokens, of the largest at 224
_TOKENS = _MOST * 257


def images_at_a_time(tokens: int) -> int:
    """How many images of so many tokens a device takes where nobody says it.

    On a CPU more are no faster; on any device larger images are to find memory, too.
    """
    return max(1, min(_MOST, _TOKENS // tokens))


class _OnDevices:
    """A model on all devices of this process, which take equal parts of every batch.

    Attributes:
      weights: what is known of it: dimensions, pixels, origin.
    """

    def __init__(self, weights: Weights, dtype: Any, batch_size: int | None):
        devices = jax.local_devices()
        count, platform = len(devices), devices[0].platform
        self.weights, self._layout = weights, Layout.of(Split(data=count), devices)
        if batch_size is not None and (
            not isinstance(batch_size, int | np.integer) or batch_size < 1
        ):
            raise UsageError(f"batch_size {batch_size!r} must be a whole number at least 1")
        usual = count * images_at_a_time(weights.dimensions.patches + weights.class_tokens)
        if batch_size is None:
            batch_size = usual
        elif platform == "cpu":  # where what is over would be padded for nothing
            batch_size = min(batch_size, usual)
        self._batch_size = -(-batch_size // count) * count
        self._model = model_lib.build(
            weights,
            dtype=dtype,
            # Where compiling takes long.
            scan=platform != "cpu",
            attention=ways.choose("auto", platform, count, count),
        )
        self._graphdef, state = nnx.split(self._model)
        self._state = jax.device_put(state, self._layout.replicated)

    def _mapped(self, images, function, **fixed) -> np.ndarray:
        width = self.weights.dimensions.width
        program = _compiled(function, tuple(fixed), self._layout.platform, width)
        images = np.asarray(images)
        single = images.ndim == 3
        images = _taken(images[None] if single else images, self.weights.pixels)
        made = []
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            # Padded to a power of two on every device, so that few programs are compiled.
            each = -(-len(part) // self._layout.mesh.size)
            size = min(self._batch_size, self._layout.mesh.size << (each - 1).bit_length())
            padded = np.pad(part, [(0, size - len(part))] + [(0, 0)] * 3, "edge")
            given = self._layout.put_batch({"image": padded}, size)["image"]
            values = program(self._graphdef, self._state, given, self.weights.pixels, **fixed)
            made.append(np.asarray(values)[: len(part)])
        return made[0][0] if single else np.concatenate(made)


class PretrainedEncoder(_OnDevices):
    """Images to features, in batches of any size.

    Attributes:
      encoder: the model itself, which takes standardised images and gives all tokens.
      weights: what is known of it: dimensions, pixels, origin.
    """

    def __init__(
        self, weights: Weights, *, dtype: Any = jnp.float32, batch_size: int | None = None
    ):
        # A mean-pooling classifier's `fc_norm` goes along, as it normalises the mean.
        super().__init__(weights.encoder(), dtype, batch_size)
        self.encoder = self._model.encoder

    def __call__(
        self,
        images: np.ndarray | jax.Array,
        output: str = "mean",
        layers: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Features of images, float32.

        Args:
          images: (B, H, W, C), uint8 or floats in 0 to 1; integers of more bits are scaled down.
            For an encoder of float32 pixels floats in the units of its mean and deviation. Without
            B, one image.
          output: "mean" of the patch tokens, (B, D); "token", the class token, (B, D), of several
            their mean; or "patches", (B, N, D). All after the encoder's last norm; a mean-pooling
            classifier has none, and its mean goes through its `fc_norm` as its head's input does.
          layers: numbers of blocks, from 1. Then of each of them, as of `Encoder.layers`: (B,
            layers, D), or (B, layers, N, D).

        Raises:
          UsageError: images of another size, values out of range, or blocks that there are none of.
        """
        self.check_output(output)
        if layers is not None:
            layers = self.check_layers(layers)
        return self._mapped(images, _features, output=output, layers=layers)

    def check_layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        """The numbers of blocks, or UsageError for one that there is none of, or that is twice."""
        return checked_layers(layers, self.weights.dimensions.depth)

    def check_output(self, output: str) -> None:
        """Raises UsageError for an output that is unknown, or that this encoder has not."""
        if output not in OUTPUTS:
            raise UsageError(f"output {output!r} is unknown; known are {', '.join(OUTPUTS)}")
        if output == "token" and not self.weights.class_token:
            raise UsageError("output 'token' needs a model with a class token")

    def attention(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """How the last block's class token looks at the patches, (B, heads, N) float32.

        Of several class tokens, the mean.

        Raises:
          UsageError: as in a call; or there is no class token.
        """
        if not self.weights.class_token:
            raise UsageError("attention of the class token needs a model with a class token")
        return self._mapped(images, _attention)


def checked_layers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Numbers of an encoder's blocks, from 1 to `depth`.

    Raises:
      UsageError: there are none, one of them is no number of a block, or is there twice.
    """
    layers = tuple(layers)
    said = ",".join(map(str, layers))
    if not layers:
        raise UsageError(f"--layers names no block; the encoder has blocks 1 to {depth}")
    for number in layers:
        if not isinstance(number, int) or not 1 <= number <= depth:
            raise UsageError(f"--layers={said}: {number} is no block; they are 1 to {depth}")
    if len(set(layers)) < len(layers):
        raise UsageError(f"--layers={said} names a block twice; once is enough")
    return layers


class PretrainedClassifier(_OnDevices):
    """Images to the probabilities of classes, in batches of any size.

    Attributes:
      classes: the names of the classes, in the order of the probabilities; empty where neither the
        weights nor their number says them.
      weights: what is known of it: dimensions, pixels, origin.

    Raises:
      UsageError: the weights are no classifier's.
    """

    def __init__(
        self, weights: Weights, *, dtype: Any = jnp.float32, batch_size: int | None = None
    ):
        if weights.kind != "classifier":
            raise UsageError(
                f"{weights.origin.get('source')!r} holds no classifier; a classifier is what "
                "finetune or probe trained"
            )
        self.classes = tuple(weights.classes or ())
        super().__init__(weights, dtype, batch_size)

    def logits(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """(B, classes) float32; images as `PretrainedEncoder` takes them.

        Raises:
          UsageError: images of another size, or values out of range.
        """
        return self._mapped(images, _logits)

    def __call__(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """Probabilities, (B, classes) float32; all else as `logits`."""
        return np.asarray(jax.nn.softmax(self.logits(images), axis=-1))


def _taken(images: np.ndarray, pixels: Pixels) -> np.ndarray:
    """(B, H, W, C) of any type as what travels to devices: uint8 or float32."""
    if images.shape[1:] != (*pixels.size, pixels.channels) or not len(images):
        raise UsageError(
            f"images of shape {images.shape} do not fit the model; it takes (B, "
            f"{', '.join(map(str, pixels.size))}, {pixels.channels}), and image_size= and "
            "channels= change that"
        )
    if images.dtype == np.uint8 and pixels.nodata is None:
        return images
    if pixels.nodata is not None or (images.dtype.kind != "f" and not pixels.floats):
        try:
            return np.stack([arrays.convert(x, Form.of(pixels), "images") for x in images])
        except BrokenRecord as error:
            raise UsageError(str(error)) from None
    if images.dtype.kind == "u":
        return images.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
    images = images.astype(np.float32)
    low, high = images.min(), images.max()
    if not np.isfinite(low) or not np.isfinite(high):
        raise UsageError("images hold values that are not finite")
    if not pixels.floats and not (low >= -0.01 and high <= 1.01):
        raise UsageError(
            f"float images from {low:.3g} to {high:.3g} must be pixels in 0 to 1; uint8 ones may "
            "be 0 to 255, and `.encoder` takes images that are standardised already"
        )
    return images


@functools.cache
def _compiled(function, fixed, platform, width):
    return jax.jit(
        function,
        static_argnums=(0, 3),
        static_argnames=fixed,
        compiler_options=compilation.options(platform, width),
    )


def _features(graphdef, state, images, pixels, *, output, layers):
    holder = nnx.merge(graphdef, state)
    images = pixels.standardise(images)
    if layers is None:
        return pooled(holder, holder.encoder(images).astype(jnp.float32), output)
    found = holder.encoder.layers(images, layers)
    return jnp.stack([pooled(holder, x_BND.astype(jnp.float32), output) for x_BND in found], 1)


def pooled(holder: nnx.Module, x_BND: jax.Array, output: str) -> jax.Array:
    """Of an encoder's output, what `PretrainedEncoder` is asked for."""
    first = holder.encoder.tokens
    if output == "token":
        return holder.encoder.class_features(x_BND)
    if output == "patches":
        return x_BND[:, first:]
    mean = x_BND[:, first:].mean(1)
    return mean if holder.fc_norm is None else holder.fc_norm(mean).astype(jnp.float32)


def _attention(graphdef, state, images, pixels):
    encoder = nnx.merge(graphdef, state).encoder
    weights = encoder.attention(pixels.standardise(images))
    return weights[:, :, : encoder.read_tokens, encoder.tokens :].mean(2)


def _logits(graphdef, state, images, pixels):
    return nnx.merge(graphdef, state)(pixels.standardise(images))
