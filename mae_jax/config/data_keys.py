"""The keys of the section `data`: which images, how they are read, cropped and labelled."""

import math
from typing import Any

from mae_jax.config.key import (
    Key,
    all_numbers,
    at_least,
    interval,
    is_pair,
    one_of,
    within,
)
from mae_jax.pixels import KINDS, MAX_PIXELS, NODATA, is_nodata

DATA: dict[str, Any] = {
    "name": Key(None, "tfds data set, with :version if wanted", kind=str),
    "folder": Key(
        None,
        "where images lie, instead of a tfds data set: a folder or its URL, what `mae-jax data "
        "prepare` made, a table of files, tar shards, Parquet files, a set of Hugging Face's, "
        "or hf:OWNER/NAME; several with commas between them",
        kind=str,
    ),
    "mixture": Key(
        (),
        "several sets instead of one: ((folder or tfds name, weight), ...), weights in shares "
        "of a batch",
        allowed=lambda sets: all(
            isinstance(part, tuple | list)
            and len(part) == 2
            and isinstance(part[0], str)
            and isinstance(part[1], int | float)
            and 0 < part[1] < math.inf
            for part in sets
        ),
        range="of pairs (name, weight above 0)",
    ),
    "dir": Key(None, "where tfds keeps its data sets", kind=str),
    "split": Key(
        "train",
        "tfds split expression, such as train[:90%]; for a folder, its sub-folders or `all`",
    ),
    "eval_split": Key(None, "held-out part, for the same kind of expression", kind=str),
    "batch_size": Key(4096, "images per step over all devices", **at_least(1)),
    "workers": Key(
        None,
        "decoding processes; 0 decodes in threads; unset: one per core, 0 with data.cache",
        kind=int,
        **at_least(0),
    ),
    "cache": Key(False, "keep decoded images in memory (for small sets)"),
    "crop": Key(
        "random",
        "what training sees of an image: a part of random size and place; fixed, a part of one "
        "size, at a random place; none, the middle, as in evaluation",
        **one_of("none", "fixed", "random"),
    ),
    "fixed_crop": Key(
        0.875,
        "side of a fixed crop, as a share of the image's shorter side",
        allowed=lambda share: 0 < share <= 1,
        range="above 0 and at most 1",
    ),
    "crop_scale": Key((0.2, 1.0), "area of a random crop, as a share of the image", **interval),
    "crop_ratio": Key((3 / 4, 4 / 3), "width over height of a random crop", **interval),
    "flip": Key(True, "mirror every second image"),
    "color_jitter": Key(
        0.0,
        "how much brightness, contrast and saturation change, each by a factor in 1 - this to "
        "1 + this; 0 is off",
        **within(0, 1),
    ),
    "randaugment": Key(
        0, "operations of RandAugment per image, timm's that increase; 0 is off", **at_least(0)
    ),
    "randaugment_magnitude": Key(9.0, "their mean strength", **within(0, 10)),
    "randaugment_std": Key(0.5, "standard deviation of their strength", **at_least(0)),
    "randaugment_share": Key(0.5, "how often each is carried out", **within(0, 1)),
    "eval_crop": Key(
        None,
        "centre crop for evaluation, as a share of the shorter side; unset: what init_from was "
        "given, or 0.875 for images of up to 224 pixels and 1.0 for larger ones",
        kind=float,
        allowed=lambda share: 0 < share <= 1,
        range="above 0 and at most 1",
    ),
    "repeats": Key(
        1, "crops of each image per epoch, one after the other, decoded once", **at_least(1)
    ),
    "pixels": Key(
        None,
        "what goes to the device, uint8 or float32, which keeps 16-bit and float values, "
        "integers in 0 to 1; unset: uint8, or what init_from was given",
        kind=str,
        **one_of(*KINDS),
    ),
    "nodata": Key(
        None,
        "pixels without data, which are in no statistics, target or loss: nan, those alone; "
        "alpha, transparent ones too; gdal, those of the value that a TIFF's tag says; or a "
        "number, in the files' own units, that all their channels have; needs "
        "data.pixels='float32'; unset: what init_from was given, or none",
        kind=str,
        allowed=is_nodata,
        range=f"one of {', '.join(NODATA)}, or a number as text",
    ),
    "max_pixels": Key(
        MAX_PIXELS,
        "height times width above which an image counts as broken",
        **within(1, 178_956_970),  # above which Pillow refuses
    ),
    "broken_share": Key(
        1e-4,
        "records that may be broken and are replaced, as a share of all, rounded up",
        **within(0.0, 1.0),
    ),
    "mean": Key(
        (),
        "per channel, of uint8 pixels in 0 to 1, of float32 ones in their units; () is what "
        "init_from was given, or else, for uint8 alone, ImageNet's, or .5 where channels are "
        "not 3",
        allowed=all_numbers,
        range="of numbers",
    ),
    "std": Key(
        (),
        "per channel, as mean",
        allowed=lambda std: all_numbers(std) and all(s > 0 for s in std),
        range="of numbers above 0",
    ),
    "window": Key(
        None,
        "side in pixels of the windows of TIFF files that are records in place of whole "
        "images, which may then be of any size",
        kind=int,
        **at_least(1),
    ),
    "background": Key(
        (),
        "of windows: (low, high), between which all channels of a pixel of background lie, in "
        "the units of data.mean; pixels without data are background, too",
        allowed=lambda pair: not pair or is_pair(pair),
        range="(), or (low, high) with low <= high",
    ),
    "background_share": Key(
        1.0,
        "windows with a larger share of background are left out",
        **within(0.0, 1.0),
    ),
    "labels": Key(
        None,
        "table of labels for data.folder: a CSV file with the columns name and class",
        kind=str,
    ),
    "labels_per_class": Key(
        None, "train on this many labelled images per class only", kind=int, **at_least(1)
    ),
    "labels_share": Key(
        None,
        "train on this share of every class's labelled images only, at least one of each",
        kind=float,
        allowed=lambda share: 0 < share <= 1,
        range="above 0 and at most 1",
    ),
    "label_draw": Key(0, "which draw of those labels", **at_least(0)),
}
