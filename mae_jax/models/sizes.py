"""The published model sizes, and the arithmetic every size must satisfy."""

import dataclasses
from collections.abc import Sequence

import jax

from mae_jax.models import masking, patches

# width, depth, heads, patch side, and the same for the decoder. base, large and huge: paper,
# section 4 and appendix A.1; tiny and small: DeiT's encoders, with a decoder scaled down to match.
SIZES = {
    "tiny": (192, 12, 3, 16, 128, 4, 4),
    "small": (384, 12, 6, 16, 256, 4, 8),
    "base": (768, 12, 12, 16, 512, 8, 16),
    "large": (1024, 24, 16, 16, 512, 8, 16),
    "huge": (1280, 32, 16, 14, 512, 8, 16),
}


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Every dimension of a model, spelled out. Sizes are in pixels, one number per spatial axis."""

    image_size: tuple[int, ...]
    patch_size: tuple[int, ...]
    channels: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches per axis, rows first."""
        return patches.grid_shape(self.image_size, self.patch_size)

    @property
    def patches(self) -> int:
        """N, the number of patches of an image."""
        return patches.count(self.grid)

    @property
    def widths(self) -> tuple[int, int]:
        """Of the encoder's blocks and of the decoder's."""
        return self.width, self.decoder_width


def per_axis(size: int | Sequence[int]) -> tuple[int, ...]:
    """One size per image axis: `32` means `(32, 32)`; `(48, 64)` is height 48, width 64."""
    return (size, size) if isinstance(size, int) else tuple(int(side) for side in size)


def resolve(
    size: str,
    *,
    image_size: int | Sequence[int],
    channels: int = 3,
    patch_size: int | Sequence[int] | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    decoder_width: int | None = None,
    decoder_depth: int | None = None,
    decoder_heads: int | None = None,
) -> Dimensions:
    """The dimensions of `size`, with every dimension given by hand taking precedence.

    Raises:
      ValueError: unknown size, an image that is not whole patches, or a width that does not
        divide into its heads or into sine and cosine of every axis.
    """
    if size not in SIZES:
        raise ValueError(f"model size {size!r} is unknown; known are {', '.join(SIZES)}")
    names = (
        "width",
        "depth",
        "heads",
        "patch_size",
        "decoder_width",
        "decoder_depth",
        "decoder_heads",
    )
    chosen = dict(zip(names, SIZES[size], strict=True))
    given = dict(
        width=width,
        depth=depth,
        heads=heads,
        patch_size=patch_size,
        decoder_width=decoder_width,
        decoder_depth=decoder_depth,
        decoder_heads=decoder_heads,
    )
    chosen.update({name: value for name, value in given.items() if value is not None})
    chosen["patch_size"] = per_axis(chosen["patch_size"])
    dimensions = Dimensions(image_size=per_axis(image_size), channels=channels, **chosen)
    _check(dimensions)
    return dimensions


def _check(d: Dimensions) -> None:
    for name in (
        "channels",
        "width",
        "depth",
        "heads",
        "decoder_width",
        "decoder_depth",
        "decoder_heads",
    ):
        if getattr(d, name) < 1:
            raise ValueError(f"{name} {getattr(d, name)} must be at least 1")
    if min(d.patch_size) < 1 or min(d.image_size) < 1:
        raise ValueError(
            f"image_size {d.image_size} and patch_size {d.patch_size} must be at least 1"
        )
    if len(d.image_size) != len(d.patch_size):
        raise ValueError(
            f"image_size {d.image_size} and patch_size {d.patch_size} must have as many axes"
        )
    for side, patch in zip(d.image_size, d.patch_size, strict=True):
        if side % patch:
            below = side // patch * patch
            nearest = f"{below} or {below + patch}" if below else f"{patch}"
            raise ValueError(
                f"image_size {side} is not divisible by patch_size {patch}; "
                f"the nearest that is: {nearest}"
            )
    waves = 2 * len(d.image_size)
    for prefix in ("", "decoder_"):
        width, heads = getattr(d, f"{prefix}width"), getattr(d, f"{prefix}heads")
        if width % heads:
            raise ValueError(
                f"{prefix}width {width} is not divisible by {prefix}heads {heads}; "
                f"the nearest width that is: {max(1, round(width / heads)) * heads}"
            )
        if width % waves:
            raise ValueError(
                f"{prefix}width {width} is not divisible by {waves}, as the sine-cosine "
                f"positions of {len(d.image_size)} axes need; "
                f"the nearest that is: {max(1, round(width / waves)) * waves}"
            )


def check_images(images: jax.Array, d: Dimensions) -> None:
    """Raises ValueError unless images are (B, *spatial, C) of a model's size and channels."""
    wanted = (*d.image_size, d.channels)
    if images.ndim != len(wanted) + 1 or images.shape[1:] != wanted:
        raise ValueError(
            f"images of shape {images.shape} do not fit the model; "
            f"it takes (B, {', '.join(map(str, wanted))})"
        )


def check_decoding(
    decode_ratio: float, decoder_attention: str, loss_on: str, mask_tokens_in_encoder: bool
) -> None:
    """Raises ValueError unless these, each as of `mae.MaskedAutoencoder`, go together."""
    if not 0 < decode_ratio <= 1:
        raise ValueError(f"decode_ratio {decode_ratio} must be above 0 and at most 1")
    if decode_ratio < 1 and loss_on != "hidden":
        raise ValueError(
            f"decode_ratio {decode_ratio} is of hidden patches, and loss_on is {loss_on!r}; leave "
            "one of them out"
        )
    if decoder_attention not in ("self", "cross"):
        raise ValueError(f"decoder_attention {decoder_attention!r} must be self or cross")
    if decoder_attention == "cross" and mask_tokens_in_encoder:
        raise ValueError(
            "with decoder_attention 'cross' hidden patches look at what the encoder says of "
            "visible ones, and mask_tokens_in_encoder shows it all; leave one of them out"
        )


def check_mask_ratio(mask_ratio: float, grid: Sequence[int], unit: int = 1) -> None:
    """Raises ValueError unless `mask_ratio` leaves a visible and a hidden unit of patches.

    Args:
      grid: of patches.
      unit: patches along every axis that are hidden together.
    """
    count = patches.count(masking.grid_of_units(grid, unit))
    kept = masking.kept_patches(count, mask_ratio) if 0 <= mask_ratio <= 1 else -1
    if not 1 <= kept <= count - 1:
        what = "patch" if unit == 1 else f"unit of {unit} x {unit} patches"
        raise ValueError(
            f"mask_ratio {mask_ratio} must leave at least one {what} visible and one hidden; "
            f"with {count} {'patches' if unit == 1 else 'units'} it must be above 0 and at most "
            f"{1 - 1 / count:.4g}"
        )
