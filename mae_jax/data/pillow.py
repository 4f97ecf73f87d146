"""Images by Pillow, of the formats that are known here: all of their modes as pixels.

Grey, palette, CMYK and 16-bit images become what is asked for, alpha is dropped, the first frame of
an animation is taken, and EXIF orientation is ignored, as in the reference.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image as Pillow

from mae_jax.data import arrays
from mae_jax.data.form import Form
from mae_jax.errors import BrokenRecord

_GDAL_NODATA = 42113  # a tag of TIFF files
# Pillow knows many more, and for some of them, such as PostScript, it starts programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@contextlib.contextmanager
def opened(data: bytes, name: str) -> Iterator[Pillow.Image]:
    """An image of a known format, by its content, of which nothing but the header was read yet.

    Raises:
      BrokenRecord: it is of none, or it cannot be decoded inside the `with`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of odd metadata
            yield Pillow.open(io.BytesIO(data), formats=_FORMATS)
    except BrokenRecord:
        raise
    except Pillow.UnidentifiedImageError:
        reason = f"is none of {', '.join(_FORMATS)}, or cut short" if data else "is empty"
        raise BrokenRecord(f"{name}: {reason}") from None
    except Exception as error:  # damaged bytes may end a decoder anywhere
        kind = "" if isinstance(error, OSError | ValueError | SyntaxError) else type(error).__name__
        raise BrokenRecord(f"{name}: {' '.join(filter(None, (kind, str(error))))}") from None


def check_size(height: int, width: int, form: Form, name: str) -> None:
    """Raises BrokenRecord if an image has more pixels than it may."""
    if height * width > form.max_pixels:
        raise BrokenRecord(f"{name}: {width} x {height} pixels are more than {form.max_pixels}")


def decode(data: bytes, form: Form, name: str) -> np.ndarray:
    """All pixels of an image, (H, W, C) uint8 or float32.

    Raises:
      BrokenRecord: it cannot be read as such.
    """
    with opened(data, name) as image:
        check_size(image.height, image.width, form, name)
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if pages > 1 and pages == form.channels:
            return _stacked(image, pages, form, name)
        image.load()
        return _of_mode(image, form, name)


def _stacked(image, pages, form, name):
    """The pages of a TIFF file as channels."""
    planes = []
    for page in range(pages):
        image.seek(page)
        check_size(image.height, image.width, form, name)
        planes.append(np.asarray(image))
    tag = _tag(image, form, name)
    if len({plane.shape for plane in planes}) > 1 or planes[0].ndim != 2:
        raise BrokenRecord(f"{name}: its {pages} pages are not grey images of one size")
    return arrays.convert(np.stack(planes, axis=-1), form, name, tag)


def _of_mode(image, form, name):
    if form.channels not in _MODES:
        raise BrokenRecord(
            f"{name}: an image of mode {image.mode} has 1 to 4 channels, not {form.channels}"
        )
    tag = _tag(image, form, name)
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values to 255 instead of scaling them.
        grey = np.asarray(image)
        if image.mode == "I" and grey.size and grey.min() >= 0 and grey.max() < 2**16:
            grey = grey.astype(np.uint16)
        grey = arrays.convert(grey, dataclasses.replace(form, channels=1), name, tag)
        if form.channels in (1, 3):
            return np.repeat(grey, form.channels, axis=-1)
        raise BrokenRecord(f"{name}: a grey image cannot have {form.channels} channels")
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if transparent else "RGB")
    mode = _MODES[form.channels]
    if form.alpha and form.channels in (1, 3) and transparent:
        # One channel more, which says where there is data; colours under it stay as they are.
        pixels = np.array(image.convert("RGBA"))
        colours = np.array(image.convert("RGB").convert(mode)).reshape(*pixels.shape[:2], -1)
        pixels = np.concatenate([colours, pixels[..., 3:]], axis=-1)
        return arrays.convert(pixels, form, name)
    if form.channels in (2, 4) and image.mode != mode:
        raise BrokenRecord(f"{name}: mode {image.mode}, expected {form.channels} channels, {mode}")
    if form.exact and form.channels == 1 and image.mode not in ("1", "L", "LA"):
        # A number is of all channels, before they become one.
        colours = np.array(image.convert("RGB"))
        none = dataclasses.replace(form, channels=3).missing(colours)
        made = arrays.convert(
            np.array(image.convert("L")), dataclasses.replace(form, nodata=None), name
        )
        made[none.all(-1)] = np.nan
        return made
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return arrays.convert(pixels, form, name, tag)


def _tag(image, form, name) -> str | None:
    """The value of pixels without data, where a TIFF has GDAL's tag for it and it is asked for."""
    said = getattr(image, "tag_v2", {}).get(_GDAL_NODATA)
    if said is None or form.nodata != "gdal":
        return None
    said = str(said).strip("\0 ")
    try:
        float(said)
    except ValueError:
        raise BrokenRecord(
            f"{name}: its tag of pixels without data says {said!r}, no number"
        ) from None
    return said
