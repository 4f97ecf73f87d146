"""Bytes to uint8 pixels; says which record is broken and why."""

import io

import numpy as np
from PIL import Image

from mae_jax.errors import BrokenRecord

# A small file can claim to be a huge picture; its header is believed before it is decoded.
MAX_PIXELS = 50_000_000


def decode(data: bytes | np.ndarray, channels: int, name: str) -> Image.Image | np.ndarray:
    """Decodes an encoded image to a uint8 picture with the wanted number of channels.

    Grey, palette, CMYK and 16-bit images become what `channels` asks for, alpha is dropped, the
    first frame of an animation is taken, and EXIF orientation is ignored, as in the reference.

    Args:
      data: an encoded image, or an array (H, W) or (H, W, C) of uint8, which passes as it is.
      channels: 1, 3, or what an array has.
      name: what to call the record in errors.

    Returns:
      A Pillow image for 1 and 3 channels, otherwise an array (H, W, channels).

    Raises:
      BrokenRecord: it cannot be read as such.
    """
    if isinstance(data, np.ndarray):
        return _from_array(data, channels, name)
    if channels not in (1, 3):
        raise BrokenRecord(f"{name}: an encoded image has 1 or 3 channels, not {channels}")
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise BrokenRecord(
                f"{name}: {image.width} x {image.height} pixels are more than {MAX_PIXELS}"
            )
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BrokenRecord(f"{name}: {error or type(error).__name__}") from None
    return _as_mode(image, "L" if channels == 1 else "RGB")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion clips 16-bit values to 255 instead of scaling them.
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image if image.mode == mode else image.convert(mode)


def _from_array(data, channels, name):
    array = data[..., None] if data.ndim == 2 else data
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != channels:
        raise BrokenRecord(
            f"{name}: array of {data.dtype} {data.shape}, expected uint8 with {channels} channels"
        )
    if channels in (1, 3):
        return Image.fromarray(array[..., 0] if channels == 1 else array)
    return array
