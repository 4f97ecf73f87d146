"""What pixels are to be, and which of them have no data."""

import dataclasses
import math

import numpy as np

from mae_jax import pixels as pixels_lib


@dataclasses.dataclass(frozen=True)
class Form:
    """What pixels are to be.

    Attributes:
      channels: values per pixel.
      floats: float32 instead of uint8: integers over their range, floats as they are.
      max_pixels: height times width that a header may say.
      nodata: which pixels become NaN, as `pixels.Pixels` has it; of floats alone.
    """

    channels: int
    floats: bool = False
    max_pixels: int = pixels_lib.MAX_PIXELS
    nodata: str | None = None

    @classmethod
    def of(cls, pixels: pixels_lib.Pixels) -> "Form":
        """What an image is decoded to, so that it becomes these."""
        return cls(pixels.channels, pixels.floats, pixels.max_pixels, pixels.nodata)

    @property
    def alpha(self) -> bool:
        """Whether a channel more than is asked for says which pixels have data."""
        return self.nodata == "alpha"

    @property
    def exact(self) -> bool:
        """Whether single values matter, so that an image is decoded as finely as it is."""
        return self.nodata is not None and self.nodata not in pixels_lib.NODATA

    def missing(self, array: np.ndarray, tag: str | None = None) -> np.ndarray | None:
        """Which values have no data; None where all have.

        NaN is one, whatever else is said. A number stands for a pixel where all channels have it.

        Args:
          array: (H, W, C), as its file has it; with `alpha` of one channel more, or as many.
          tag: the value that GDAL's tag in the file says.

        Returns:
          (H, W, channels).
        """
        if self.nodata is None:
            return None
        values = array[..., : self.channels]
        found = np.isnan(values) if array.dtype.kind == "f" else np.zeros(values.shape, bool)
        if array.shape[-1] > self.channels:
            found |= array[..., -1:] == 0
        said = tag if self.nodata == "gdal" else self.nodata
        if said in (None, "alpha") or math.isnan(value := float(said)):
            return found
        # One that no pixel can have is none's.
        with np.errstate(over="ignore", invalid="ignore"):
            number = np.asarray(value).astype(array.dtype)
        if array.dtype.kind == "f" or number == value:
            found |= (values == number).all(-1, keepdims=True)
        return found
