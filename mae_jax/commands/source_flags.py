"""The flags of every verb that takes a SOURCE, and what they say."""

import re
from typing import Any

from absl import flags

from mae_jax.errors import UsageError

HELP = """  --step=N                which checkpoint of a work folder; the latest by default
  --heads=N, --decoder_heads=N, --[no]norm_pix, --image_size=HxW, --patch_size=HxW
                          what SOURCE does not say; for another --image_size than
                          it was made for, positions are resized
  --channels=N            of the images, where SOURCE was made for others (embed, features,
                          export --part=encoder)"""


def define(args: flags.FlagValues, *, channels: bool) -> None:
    """Adds them; `channels` where the verb can do with the encoder alone."""
    for name in ("step", "heads", "decoder_heads", *(["channels"] if channels else [])):
        flags.DEFINE_integer(name, None, name, flag_values=args)
    for name in ("image_size", "patch_size"):
        flags.DEFINE_string(name, None, name, flag_values=args)
    flags.DEFINE_bool("norm_pix", None, "whether the target is normalised", flag_values=args)


def read(args: flags.FlagValues, source: str, part: str = "full") -> Any:
    """The `Weights` of SOURCE, adapted to what the flags ask for.

    Raises:
      UsageError: as `weights.read.read`.
    """
    from mae_jax.weights import read as reader

    image_size = _sides("image_size", args.image_size)
    weights = reader.read(
        source,
        step=args.step,
        part=part,
        heads=args.heads,
        decoder_heads=args.decoder_heads,
        norm_pix=args.norm_pix,
        image_size=image_size,
        patch_size=_sides("patch_size", args.patch_size),
    )
    channels = args.channels if "channels" in args else None
    if channels not in (None, weights.dimensions.channels):
        if weights.kind != "encoder":
            raise UsageError(
                f"--channels={channels} adapts an encoder alone; give --part=encoder, or leave it "
                "out"
            )
        weights = weights.with_channels(channels)
    return weights.resized(image_size)


def _sides(name: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) not in (1, 2) or re.search(r"[^\d,x() ]", text) or min(numbers) < 1:
        raise UsageError(f"--{name}={text} must be one number, or two as in 224x160")
    return (numbers[0], numbers[-1])
