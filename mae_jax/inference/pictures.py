"""Pictures of what a model makes of images: reconstructions, tokens, attention."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mae_jax.data import sources
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference.views import views
from mae_jax.models import masking, patches, sizes, targets
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.train import own
from mae_jax.visualize import reconstruction, tokens
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights
from mae_jax.weights.load import encoder_of

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
    """Draws some images of a folder, or one file: masked, reconstructed, original.

    Args:
      weights: an encoder with its decoder.
      mask_ratio, sampling: the model's own by default.
      seed: draws the masks.

    Returns:
      Where the picture lies, and the loss on the hidden patches.

    Raises:
      UsageError: no decoder, no images, or a mask that cannot be.
      BrokenRecord: too many images cannot be read.
    """
    if weights.kind != "full":
        raise UsageError(f"reconstructing needs a decoder, and these are of kind {weights.kind!r}")
    if not targets.TARGETS[weights.target].pictured:
        raise UsageError(f"this model predicts {weights.target}, which cannot be drawn")
    d, ratio = weights.dimensions, weights.mask_ratio if mask_ratio is None else mask_ratio
    unit = weights.mask_unit
    try:
        sizes.check_mask_ratio(ratio, d.grid, unit)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if sampling is None and weights.sampling not in masking.SAMPLINGS:
        raise UsageError(
            f"these weights name the sampling {weights.sampling!r}, and no code is run because a "
            f"file names it; give --sampling={weights.sampling} if you trust that, or one of "
            + ", ".join(masking.SAMPLINGS)
        )
    units = masking.grid_of_units(d.grid, unit)
    sample = own.sampling(sampling or weights.sampling, units, "sampling")
    path = picture_path(out)
    originals, pixels = _open(images, weights), weights.pixels
    model: MaskedAutoencoder = model_lib.build(weights)
    key = jax.random.key(seed)
    noise = masking.draw(sample, key, len(originals), d.grid, unit)
    standard, known = (f(jnp.asarray(originals)) for f in (pixels.standardise, pixels.known))
    output = model(standard, mask_ratio=ratio, noise=noise, known=known)
    made = np.asarray(pixels.restored(model.predicted_images(standard, output, known)))
    shown = pixels.shown(originals, like=originals)
    sheet = reconstruction.panel(
        {
            f"{ratio:.0%} masked": reconstruction.hide(
                shown, np.asarray(output.mask), d.patch_size
            ),
            "reconstructed": pixels.shown(made, like=originals),
            "original": shown,
        },
        side=160,
    )
    sheet.save(path)
    return {"out": str(path), "images": len(originals), "measures": {"loss": float(output.loss)}}


def features(weights: Weights, images: str | Path, out: str | Path) -> dict[str, Any]:
    """Draws, for some images of a folder or one file, what the encoder sees.

    Raises:
      UsageError: no images.
      BrokenRecord: too many images cannot be read.
    """
    path, originals = picture_path(out), _open(images, weights)
    encoder = encoder_of(weights)
    attention = encoder.attention(originals) if weights.class_token else None
    grid = patches.grid_shape(weights.dimensions.image_size, weights.dimensions.patch_size)
    shown = weights.pixels.shown(originals, like=originals)
    tokens.sheet(shown, encoder(originals, "patches"), attention, grid).save(path)
    return {"out": str(path), "images": len(originals)}


def picture_path(out: str | Path, name: str = "--out") -> Path:
    """Where a picture is to lie, its folder made; tried before the work, not after it.

    Raises:
      UsageError: it is no picture's name, or cannot be written.
    """
    path = Path(out).expanduser().absolute()
    if path.suffix not in (".png", ".jpg", ".webp"):
        raise UsageError(f"{name} {str(out)!r} must end in .png, .jpg or .webp")
    if path.is_dir():
        raise UsageError(f"{name} {str(out)!r} is a folder; give the name of a new file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UsageError(f"{name} {str(out)!r} cannot be written: {error.strerror}") from None
    return path


def _open(images, weights) -> np.ndarray:
    """(B, H, W, C), as the model is given them: spread over the source, which may be sorted."""
    source = sources.open_images(images)
    some = np.unique(np.linspace(0, len(source) - 1, _IMAGES).round().astype(int))
    (found,) = views(source, weights.pixels, some, _IMAGES)
    if not found.sound.any():
        raise BrokenRecord(f"no image of {str(images)!r} that was to be drawn can be read")
    return found.images[found.sound]
