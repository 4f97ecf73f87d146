"""Models, encoders and classifiers from any SOURCE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from mae_jax.errors import UsageError
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer
from mae_jax.weights import adapt
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights
from mae_jax.weights.pretrained import PretrainedClassifier, PretrainedEncoder
from mae_jax.weights.read import read


def load(
    source: str | Path,
    *,
    step: int | str | None = None,
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
        timm's, or "hf:OWNER/NAME[@REVISION]" of the Hugging Face hub.
      step: which checkpoint of a work folder, or "best"; the latest by default.
      image_size: of the images it will get; positions are resized to it. Also says how the
        patches lie where nothing else does.
      patch_size: where the source does not say it; so are `heads`, `decoder_heads` and `norm_pix`,
        where the width does not settle them.
      heads: see `patch_size`.
      decoder_heads: see `patch_size`.
      norm_pix: see `patch_size`.
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
    return whole(adapt.fitted(weights, image_size), source, dtype=dtype, scan=scan)


def whole(weights: Weights, source: Any, **options: Any) -> MaskedAutoencoder | VisionTransformer:
    """As `load`, from weights that were read."""
    if weights.kind == "encoder":
        raise UsageError(
            f"{str(source)!r} holds an encoder alone, without decoder_* and head; "
            "mae_jax.load_encoder loads it"
        )
    return model_lib.build(weights, **options)


def load_encoder(
    source: str | Path,
    *,
    step: int | str | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    patch_size: int | Sequence[int] | None = None,
    heads: int | None = None,
    dtype: Any = jnp.float32,
    batch_size: int | None = None,
) -> PretrainedEncoder:
    """The encoder of any source, as a function from images to features.

    What is not said here is as in `load`.

    Args:
      image_size: of the images; positions are resized to it.
      channels: of the images; the patch projection is adapted (`adapt.with_channels`).
      batch_size: images that go through at a time; by default 64 on each device, fewer of large
        ones. On CPUs these are also the most.

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
    fitted = adapt.fitted(weights.encoder(), image_size)
    return PretrainedEncoder(adapt.with_channels(fitted, channels), **options)


def load_classifier(
    source: str | Path,
    *,
    step: int | str | None = None,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    heads: int | None = None,
    dtype: Any = jnp.float32,
    batch_size: int | None = None,
) -> PretrainedClassifier:
    """The classifier of any source, as a function from images to probabilities.

    Arguments as of `load_encoder`. It knows the mean and deviation of its pixels, and the names of
    its classes where its source does.

    Raises:
      UsageError: what `read` says, or the source holds no classifier.
    """
    weights = read(source, step=step, image_size=image_size, patch_size=patch_size, heads=heads)
    return PretrainedClassifier(
        adapt.fitted(weights, image_size), dtype=dtype, batch_size=batch_size
    )
