"""SOURCE: the weights that a verb works on, with what goes along on the command line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from mae_jax.commands.verb import Flag, Positional
from mae_jax.data.progress import say
from mae_jax.errors import UsageError

if TYPE_CHECKING:
    from mae_jax.weights.described import Weights

HELP = """SOURCE is a work folder, or one of its checkpoints (RUN/checkpoints/N), a .pth,
.safetensors or .npz file, a folder of transformers', timm's or mae-jax export's, or
hf:OWNER/NAME[@REVISION] of the Hugging Face hub; --config.init_from takes the same."""
SOURCE = Positional(
    "source", "SOURCE", "whose weights: a work folder, a file, an exported folder, hf:OWNER/NAME"
)


def _sides(name: str) -> Callable[[str], tuple[int, int]]:
    """Reads height and width, from one number or two as in 224x160."""

    def parse(text):
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        if len(numbers) not in (1, 2) or re.search(r"[^\d,x() ]", text) or min(numbers) < 1:
            raise UsageError(f"--{name}={text} must be one number, or two as in 224x160")
        return numbers[0], numbers[-1]

    return parse


def _step(text: str) -> int | str:
    if text != "best" and not re.fullmatch(r"\d+", text):
        raise UsageError(f"--step={text} must be a whole number, or best")
    return text if text == "best" else int(text)


class Reading(TypedDict, total=False):
    """What goes along with a SOURCE; None, or nothing, is what SOURCE says."""

    step: int | str | None
    heads: int | None
    decoder_heads: int | None
    norm_pix: bool | None
    image_size: int | tuple[int, int] | None
    patch_size: int | tuple[int, int] | None


class EncoderReading(Reading, total=False):
    """What goes along where an encoder alone will do."""

    channels: int | None


FLAGS = (
    Flag(
        "step",
        "N|best",
        "which checkpoint of a work folder: best is by checkpoint.keep_best; the latest by default",
        _step,
    ),
    Flag("heads", "N", "attention heads"),
    Flag("decoder_heads", "N", "those of the decoder"),
    Flag("norm_pix", "", "whether the target is normalised"),
    Flag("image_size", "HxW", "another size, to which positions are resized", _sides("image_size")),
    Flag("patch_size", "HxW", "height and width of a patch", _sides("patch_size")),
)
ENCODER_FLAGS = (*FLAGS, Flag("channels", "N", "of the images, where they are others"))


def weights_of(
    source: str | Path, part: str = "full", **reading: Unpack[EncoderReading]
) -> "Weights":
    """The `Weights` of SOURCE, adapted to what is asked for.

    Args:
      source: see `HELP`.
      part: as of `weights.read.read`.
      reading: `channels` of the images, for an encoder alone; the rest as of `weights.read.read`.

    Raises:
      UsageError: as `weights.read.read`.
    """
    from mae_jax.weights import adapt
    from mae_jax.weights import read as reader

    channels = reading.pop("channels", None)
    weights = reader.read(source, part=part, **reading)
    if channels not in (None, weights.dimensions.channels):
        if weights.kind != "encoder":
            raise UsageError(
                f"--channels={channels} adapts an encoder alone; give --part=encoder, or leave it "
                "out"
            )
        weights = adapt.with_channels(weights, channels)
    return adapt.fitted(weights, reading.get("image_size"))


def weights_to_use(
    source: str | Path, part: str = "full", **reading: Unpack[EncoderReading]
) -> "Weights":
    """As `weights_of`, and says so where their training has not come to its end.

    Of a checkpoint that was asked for, that is known.
    """
    weights = weights_of(source, part, **reading)
    if weights.unfinished and reading.get("step") is None:
        say(weights.unfinished)
    return weights
