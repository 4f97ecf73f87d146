"""SOURCE: the weights that a verb works on, with what goes along on the command line."""

import re
from typing import Any

from mae_jax.commands.verb import Flag, Positional
from mae_jax.errors import UsageError

HELP = """SOURCE is a work folder, a .pth, .safetensors or .npz file, or a folder of transformers',
timm's or mae-jax export's; --config.init_from takes the same."""
SOURCE = Positional("source", "SOURCE", "whose weights: a work folder, a file, an exported folder")


def sides(text: str) -> tuple[int, int]:
    """Height and width, from one number or two as in 224x160."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) not in (1, 2) or re.search(r"[^\d,x() ]", text) or min(numbers) < 1:
        raise UsageError(f"{text!r} must be one number, or two as in 224x160")
    return numbers[0], numbers[-1]


def _sides_of(name):
    def parse(text):
        try:
            return sides(text)
        except UsageError as error:
            raise UsageError(f"--{name}: {error}") from None

    return parse


FLAGS = (
    Flag("step", "N", "which checkpoint of a work folder; the latest by default", type=int),
    Flag("heads", "N", "attention heads, where SOURCE does not say it", type=int),
    Flag("decoder_heads", "N", "of the decoder, likewise", type=int),
    Flag("norm_pix", "", "whether the target is normalised, likewise", type=bool),
    Flag(
        "image_size",
        "HxW",
        "of images, to which positions are resized",
        _sides_of("image_size"),
    ),
    Flag("patch_size", "HxW", "where SOURCE does not say it", _sides_of("patch_size")),
)
CHANNELS = Flag("channels", "N", "of the images, where SOURCE was made for others", type=int)


def weights_of(source: str, part: str = "full", *, channels: int | None = None, **reading: Any):
    """The `Weights` of SOURCE, adapted to what is asked for.

    Args:
      source: see `HELP`.
      part: as of `weights.read.read`.
      channels: of the images, for an encoder alone.
      reading: `step`, `heads`, `decoder_heads`, `norm_pix`, `image_size` and `patch_size`, as of
        `weights.read.read`.

    Raises:
      UsageError: as `weights.read.read`.
    """
    from mae_jax.weights import read as reader

    weights = reader.read(source, part=part, **reading)
    if channels not in (None, weights.dimensions.channels):
        if weights.kind != "encoder":
            raise UsageError(
                f"--channels={channels} adapts an encoder alone; give --part=encoder, or leave it "
                "out"
            )
        weights = weights.with_channels(channels)
    return weights.resized(reading.get("image_size"))
