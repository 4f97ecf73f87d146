"""Arrays as pictures."""

import numpy as np
from PIL import Image


def picture(image: np.ndarray) -> Image.Image:
    """(H, W, C) in 0 to 1 in colour: the first three channels, or the first."""
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return Image.fromarray(np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8))
