"""Pictures of what a model makes of images: reconstructions, tokens, attention."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mae_jax.data import loader, sources
from mae_jax.errors import UsageError
from mae_jax.models import masking, patches, sizes
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.visualize import reconstruction, tokens
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights
from mae_jax.weights.load import encoder_of, standardise

_IMAGES = 8  # at most, in one picture


def reconstruct(
    weights: Weights,
    images: str | Path,
    out: str | Path,
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
    sampling: str | None = None,
) -> dict[str, Any]:
    """Draws the first images of a folder, or one file: masked, reconstructed, original.

    Args:
      weights: an encoder with its decoder.
      mask_ratio, sampling: the model's own by default.
      seed: draws the masks.

    Returns:
      Where the picture lies, and the loss on the hidden patches.

    Raises:
      UsageError: no decoder, no images, or a mask that cannot be.
      BrokenRecord: an image cannot be read.
    """
    if weights.kind != "full":
        raise UsageError(f"reconstructing needs a decoder, and these are of kind {weights.kind!r}")
    path, pixels = _path(out), _open(images, weights)
    d, ratio = weights.dimensions, weights.mask_ratio if mask_ratio is None else mask_ratio
    sampling = sampling or weights.sampling
    if sampling not in masking.SAMPLINGS:
        known = ", ".join(masking.SAMPLINGS)
        raise UsageError(f"sampling {sampling!r} is unknown; known are {known}")
    try:
        sizes.check_mask_ratio(ratio, d.patches)
    except ValueError as error:
        raise UsageError(str(error)) from None
    model: MaskedAutoencoder = model_lib.build(weights)
    noise = masking.SAMPLINGS[sampling](jax.random.key(seed), len(pixels), d.grid)
    standard = standardise(jnp.asarray(pixels), weights.mean, weights.std)
    output = model(standard, mask_ratio=ratio, noise=noise)
    made = np.asarray(model.predicted_images(standard, output))
    shown = np.clip(made * np.array(weights.std) + np.array(weights.mean), 0, 1)
    originals = pixels.astype(np.float32) / 255
    sheet = reconstruction.panel(
        {
            f"{ratio:.0%} masked": reconstruction.hide(
                originals, np.asarray(output.mask), d.patch_size
            ),
            "reconstructed": shown,
            "original": originals,
        },
        side=160,
    )
    sheet.save(path)
    return {"out": str(path), "images": len(pixels), "measures": {"loss": float(output.loss)}}


def features(weights: Weights, images: str | Path, out: str | Path) -> dict[str, Any]:
    """Draws, for the first images of a folder or one file, what the encoder sees.

    Raises:
      UsageError: no images.
      BrokenRecord: an image cannot be read.
    """
    path, pixels = _path(out), _open(images, weights)
    encoder = encoder_of(weights)
    attention = encoder.attention(pixels) if weights.class_token else None
    grid = patches.grid_shape(weights.dimensions.image_size, weights.dimensions.patch_size)
    sheet = tokens.sheet(
        pixels.astype(np.float32) / 255, encoder(pixels, "patches"), attention, grid
    )
    sheet.save(path)
    return {"out": str(path), "images": len(pixels)}


def _path(out) -> Path:
    path = Path(out).absolute()
    if path.suffix not in (".png", ".jpg", ".webp"):
        raise UsageError(f"--out {str(out)!r} must end in .png, .jpg or .webp")
    if path.is_dir():
        raise UsageError(f"--out {str(out)!r} is a folder; give the name of a new file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()  # before the work, not after it
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return path


def _open(images, weights) -> np.ndarray:
    """(B, H, W, C) uint8, the whole of each that has the shape the model takes."""
    source, d = sources.open_images(images), weights.dimensions
    picture = loader.Picture(
        d.image_size, d.channels, crop_scale=(1, 1), crop_ratio=(1, 1), flip=False, eval_crop=1.0
    )
    decode = loader.Decoder(source, picture, cache=False)
    return np.stack([picture.plain(decode(i)[0]) for i in range(min(_IMAGES, len(source)))])
