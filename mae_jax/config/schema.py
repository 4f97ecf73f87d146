"""The one schema of every configuration: type, default, range and meaning of each key."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from mae_jax.config import functions
from mae_jax.pixels import KINDS, MAX_PIXELS, NODATA, is_nodata


@dataclasses.dataclass(frozen=True)
class Key:
    """One configuration key.

    Attributes:
      default: the default; None for a key that may stay unset.
      meaning: what it is, with its unit.
      kind: its type; that of the default where not given.
      allowed: whether a value is in range.
      range: that range, in words.
    """

    default: Any
    meaning: str
    kind: type | None = None
    allowed: Callable[[Any], bool] = lambda value: True
    range: str = ""

    @property
    def type(self) -> type:
        return self.kind or type(self.default)


def _at_least(low, **kwargs):
    return dict(allowed=lambda value: value >= low, range=f"at least {low}", **kwargs)


def _above(low, **kwargs):
    return dict(allowed=lambda value: value > low, range=f"above {low}", **kwargs)


def _one_of(*values, **kwargs):
    names = ", ".join(str(value) for value in values)
    return dict(allowed=lambda value: value in values, range=f"one of {names}", **kwargs)


def _one_of_or_function(*values):
    return dict(
        allowed=lambda value: value in values or functions.is_named(value),
        range=f"one of {', '.join(values)}, or a function of your own, {functions.FORM}",
    )


def _within(low, high, **kwargs):
    return dict(allowed=lambda value: low <= value <= high, range=f"from {low} to {high}", **kwargs)


_below_one = dict(allowed=lambda value: 0 <= value < 1, range="at least 0 and below 1")
_sides = dict(
    allowed=lambda sides: 1 <= len(sides) <= 2 and all(type(s) is int and s > 0 for s in sides),
    range="of one side for squares, or of height and width",
)


def _numbers(values) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _pair(values) -> bool:
    return len(values) == 2 and _numbers(values) and values[0] <= values[1]


_interval = dict(
    allowed=lambda pair: _pair(pair) and pair[0] > 0,
    range="(low, high) with 0 < low <= high",
)

SCHEMA: dict[str, Any] = {
    "seed": Key(
        0, "decides data order, augmentation, masks and initial parameters", **_within(0, 2**32 - 1)
    ),
    "init_from": Key(
        None,
        "what to start from: a work folder, or any SOURCE of `mae-jax --help`; in pre-training all "
        "of the model that it holds, else the encoder",
        kind=str,
    ),
    "init_part": Key(
        None,
        "what of init_from pre-training starts from: full, its decoder too, or the encoder alone; "
        "unset: all there is",
        kind=str,
        **_one_of("encoder", "full"),
    ),
    "init_channels": Key(
        (),
        "for every channel of the images, which of init_from's it starts from, counted from 0, or "
        "-1 for their mean; () where they are the same, or one is grey",
        allowed=lambda turn: all(type(c) is int and c >= -1 for c in turn),
        range="of channels from 0, or -1",
    ),
    "model": {
        "size": Key(
            None,
            "tiny, small, base, large or huge; sets what is not set below; unset: that of "
            "init_from, or base",
            kind=str,
            **_one_of("tiny", "small", "base", "large", "huge"),
        ),
        "image_size": Key(
            None,
            "height and width in pixels; unset: those of init_from, or 224",
            kind=tuple,
            **_sides,
        ),
        "patch_size": Key(None, "height and width of a patch in pixels", kind=tuple, **_sides),
        "channels": Key(
            None, "values per pixel; unset: as init_from, or 3", kind=int, **_at_least(1)
        ),
        "width": Key(None, "encoder width", kind=int, **_at_least(1)),
        "depth": Key(None, "encoder blocks", kind=int, **_at_least(1)),
        "heads": Key(None, "encoder attention heads", kind=int, **_at_least(1)),
        "decoder_width": Key(None, "decoder width", kind=int, **_at_least(1)),
        "decoder_depth": Key(None, "decoder blocks", kind=int, **_at_least(1)),
        "decoder_heads": Key(None, "decoder attention heads", kind=int, **_at_least(1)),
        "mask_ratio": Key(0.75, "share of the patches that is hidden", **_within(0.0, 1.0)),
        "sampling": Key(
            "random",
            "how hidden patches are chosen",
            **_one_of_or_function("random", "block", "grid"),
        ),
        "mask_unit": Key(
            1,
            "patches along every axis that are hidden together, so that 4 hides units of 4 x 4",
            **_at_least(1),
        ),
        "loss_on": Key(
            "hidden", "patches that are predicted and compared", **_one_of("hidden", "all")
        ),
        "norm_pix": Key(
            None,
            "normalise each patch by its mean and deviation, before it is compared; unset: as "
            "init_from, or True",
            kind=bool,
        ),
        "target": Key(
            None,
            "what is predicted of a patch: its pixels; pca, its largest PCA coefficients; or the "
            "code that a tokenizer gives it; unset: as init_from, or pixels",
            kind=str,
            **_one_of_or_function("pixels", "pca"),
        ),
        "pca_components": Key(96, "coefficients that target pca has", **_at_least(1)),
        "class_token": Key(
            None, "carry a class token along; unset: as init_from, or True", kind=bool
        ),
        "class_tokens": Key(
            None,
            "how many, where there is one; unset: as init_from, or 1",
            kind=int,
            **_at_least(1),
        ),
        "mask_tokens_in_encoder": Key(
            None,
            "show hidden patches to the encoder as mask tokens; unset: as init_from, or False",
            kind=bool,
        ),
        "pool": Key("mean", "what a classifier reads", **_one_of("mean", "token")),
        "drop_path": Key(
            0.0,
            "how often a classifier's last block is skipped in training, rising from 0 at the "
            "first; per image",
            **_below_one,
        ),
        "dtype": Key(
            "auto",
            "computation: auto is bfloat16 on accelerators, float32 on CPU",
            **_one_of("auto", "float32", "bfloat16"),
        ),
        "attention": Key(
            "auto",
            "how heads are multiplied: plain; grouped, as wide as a TPU's registers; packed, "
            "in few passes over memory, for a single CPU; auto: what suits the device",
            **_one_of("auto", "plain", "grouped", "packed"),
        ),
        "remat": Key(
            False,
            "compute blocks again for the gradient instead of storing what is inside: less memory, "
            "a third more work",
        ),
        "scan": Key(
            False, "run blocks as one scanned block: compiles several times as fast, runs slower"
        ),
    },
    "data": {
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
        "batch_size": Key(4096, "images per step over all devices", **_at_least(1)),
        "workers": Key(
            None,
            "decoding processes; 0 decodes in threads; unset: one per core, 0 with data.cache",
            kind=int,
            **_at_least(0),
        ),
        "cache": Key(False, "keep decoded images in memory (for small sets)"),
        "crop": Key(
            "random",
            "what training sees of an image: a part of random size and place; fixed, a part of one "
            "size, at a random place; none, the middle, as in evaluation",
            **_one_of("none", "fixed", "random"),
        ),
        "fixed_crop": Key(
            0.875,
            "side of a fixed crop, as a share of the image's shorter side",
            allowed=lambda share: 0 < share <= 1,
            range="above 0 and at most 1",
        ),
        "crop_scale": Key(
            (0.2, 1.0), "area of a random crop, as a share of the image", **_interval
        ),
        "crop_ratio": Key((3 / 4, 4 / 3), "width over height of a random crop", **_interval),
        "flip": Key(True, "mirror every second image"),
        "color_jitter": Key(
            0.0,
            "how much brightness, contrast and saturation change, each by a factor in 1 - this to "
            "1 + this; 0 is off",
            **_within(0, 1),
        ),
        "randaugment": Key(
            0, "operations of RandAugment per image, timm's that increase; 0 is off", **_at_least(0)
        ),
        "randaugment_magnitude": Key(9.0, "their mean strength", **_within(0, 10)),
        "randaugment_std": Key(0.5, "standard deviation of their strength", **_at_least(0)),
        "randaugment_share": Key(0.5, "how often each is carried out", **_within(0, 1)),
        "eval_crop": Key(
            None,
            "centre crop for evaluation, as a share of the shorter side; unset: what init_from was "
            "given, or 0.875 for images of up to 224 pixels and 1.0 for larger ones",
            kind=float,
            allowed=lambda share: 0 < share <= 1,
            range="above 0 and at most 1",
        ),
        "repeats": Key(
            1, "crops of each image per epoch, one after the other, decoded once", **_at_least(1)
        ),
        "pixels": Key(
            None,
            "what goes to the device, uint8 or float32, which keeps 16-bit and float values, "
            "integers in 0 to 1; unset: uint8, or what init_from was given",
            kind=str,
            **_one_of(*KINDS),
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
            **_within(1, 178_956_970),  # above which Pillow refuses
        ),
        "broken_share": Key(
            1e-4,
            "records that may be broken and are replaced, as a share of all, rounded up",
            **_within(0.0, 1.0),
        ),
        "mean": Key(
            (),
            "per channel, of uint8 pixels in 0 to 1, of float32 ones in their units; () is what "
            "init_from was given, or else, for uint8 alone, ImageNet's, or .5 where channels are "
            "not 3",
            allowed=_numbers,
            range="of numbers",
        ),
        "std": Key(
            (),
            "per channel, as mean",
            allowed=lambda std: _numbers(std) and all(s > 0 for s in std),
            range="of numbers above 0",
        ),
        "window": Key(
            None,
            "side in pixels of the windows of TIFF files that are records in place of whole "
            "images, which may then be of any size",
            kind=int,
            **_at_least(1),
        ),
        "background": Key(
            (),
            "of windows: (low, high), between which all channels of a pixel of background lie, in "
            "the units of data.mean; pixels without data are background, too",
            allowed=lambda pair: not pair or _pair(pair),
            range="(), or (low, high) with low <= high",
        ),
        "background_share": Key(
            1.0,
            "windows with a larger share of background are left out",
            **_within(0.0, 1.0),
        ),
        "labels": Key(
            None,
            "table of labels for data.folder: a CSV file with the columns name and class",
            kind=str,
        ),
        "labels_per_class": Key(
            None, "train on this many labelled images per class only", kind=int, **_at_least(1)
        ),
        "labels_share": Key(
            None,
            "train on this share of every class's labelled images only, at least one of each",
            kind=float,
            allowed=lambda share: 0 < share <= 1,
            range="above 0 and at most 1",
        ),
        "label_draw": Key(0, "which draw of those labels", **_at_least(0)),
    },
    "train": {
        "objective": Key(
            "reconstruct",
            "what is learned: pixels, classes, or classes by a linear probe of the class token",
            **_one_of("reconstruct", "classify", "probe"),
        ),
        "epochs": Key(None, "passes over the data", kind=float, **_above(0)),
        "steps": Key(None, "updates, instead of epochs", kind=int, **_at_least(1)),
        "warmup_epochs": Key(40.0, "linear warm-up from zero", **_at_least(0)),
        "warmup_steps": Key(
            None, "the warm-up in updates, instead of epochs", kind=int, **_at_least(0)
        ),
        "base_lr": Key(1.5e-4, "peak learning rate per 256 images of the batch", **_at_least(0)),
        "min_lr": Key(0.0, "learning rate the half-cosine ends at", **_at_least(0)),
        "weight_decay": Key(
            0.05,
            "decoupled decay; not of biases and norms, nor of a classifier's positions and class "
            "token",
            **_at_least(0),
        ),
        "optimizer": Key("adamw", "how gradients become updates", **_one_of("adamw", "lars")),
        "beta1": Key(0.9, "AdamW's first decay; the momentum of LARS", **_below_one),
        "beta2": Key(0.95, "AdamW's second decay", **_below_one),
        "layer_decay": Key(
            1.0,
            "learning rate of an encoder's block over that of the next; 1 above the last",
            allowed=lambda decay: 0 < decay <= 1,
            range="above 0 and at most 1",
        ),
        "settle_epochs": Key(
            0.0,
            "what is new beside a pre-trained encoder settles first: for so long the encoder "
            "learns at train.settle_lr of its rate",
            **_at_least(0),
        ),
        "settle_steps": Key(
            None, "the same in updates, instead of epochs", kind=int, **_at_least(0)
        ),
        "settle_lr": Key(
            0.0,
            "meanwhile, the encoder's learning rate over its own; 0: it stands still",
            **_within(0, 1),
        ),
        "trained_blocks": Key(
            None,
            "fine-tune the last so many blocks and the head only; 0.5 is the last block's MLP",
            kind=float,
            allowed=lambda blocks: blocks == 0.5 or (blocks >= 0 and blocks == int(blocks)),
            range="0.5, or whole and at least 0",
        ),
        "ema": Key(
            None,
            "decay per step of a moving average of the parameters, which is measured too and then "
            "taken wherever the run's weights are",
            kind=float,
            **_below_one,
        ),
        "clip_norm": Key(None, "largest global gradient norm", kind=float, **_above(0)),
        "accumulate": Key(
            1, "parts a batch is split into, their gradients averaged", **_at_least(1)
        ),
        "max_skipped": Key(
            5,
            "steps in a row that may make no update, because loss or gradient are not finite, "
            "before the run ends; 0 ends it at the first",
            **_at_least(0),
        ),
        "check_replicas_every": Key(
            None,
            "steps between comparisons, bit for bit, of the copies of the state over devices; they "
            "come before each save too, and a difference ends the run; unset: none are made",
            kind=int,
            **_at_least(1),
        ),
        "label_smoothing": Key(0.0, "mass moved from the label to all classes", **_within(0, 1)),
        "mixup": Key(0.0, "alpha of the Beta that mixes pairs of labelled images", **_at_least(0)),
        "cutmix": Key(
            0.0, "alpha of the Beta for the area that comes from another", **_at_least(0)
        ),
        "cutmix_share": Key(
            0.5, "how often cutmix is taken where mixup is on too", **_within(0, 1)
        ),
        "erasing": Key(0.0, "how often a part of an image is replaced by noise", **_within(0, 1)),
    },
    "parallel": {
        "fsdp": Key(
            None,
            "devices that parameters and optimizer are split over; unset: 1 where the optimizer "
            "takes less than 256 MiB, else up to 32 or 64, of several hosts not all",
            kind=int,
            **_at_least(1),
        ),
        "tensor": Key(1, "devices that each block is split over, by heads", **_at_least(1)),
        "zero": Key(
            False,
            "split the optimizer's state over all devices along the batch, and leave the "
            "parameters whole unless parallel.fsdp says otherwise (ZeRO-1)",
        ),
    },
    "checkpoint": {
        "every_epochs": Key(
            None,
            "how often to save; where neither steps nor minutes are given, 1",
            kind=float,
            **_above(0),
        ),
        "every_steps": Key(None, "save after so many steps, too", kind=int, **_at_least(1)),
        "every_minutes": Key(None, "save after so many minutes, too", kind=float, **_above(0)),
        "keep": Key(2, "how many of the latest to keep", **_at_least(1)),
        "keep_every_steps": Key(
            None, "save after so many steps and keep that, for good", kind=int, **_at_least(1)
        ),
        "keep_best": Key(
            None,
            "keep the best by this measure too, such as eval_loss; what is measured is then saved",
            kind=str,
        ),
    },
    "log": {
        "every_steps": Key(50, "how often to print and record", **_at_least(1)),
        "eval_every_epochs": Key(10.0, "how often to measure on the held-out part", **_above(0)),
        "panel_every_epochs": Key(20.0, "how often to draw reconstructions", **_above(0)),
        "knn": Key(
            True,
            "report kNN accuracy of the frozen encoder where there are labels",
        ),
        "diagnose": Key(
            True,
            "in pre-training, report what tells whether it learns: the loss on training images "
            "that are seen and hidden as held-out ones are, and the effective rank of features; "
            "of 1024 images at most",
        ),
        "knn_neighbours": Key(20, "how many vote", **_at_least(1)),
        "knn_temperature": Key(
            0.07,
            "of their votes, which weigh exp(similarity / this)",
            **_above(0),
        ),
        "knn_images": Key(20_000, "training images kNN compares with, at most", **_at_least(1)),
        "sharding": Key(
            False,
            "print what is split over which devices, with bytes per device",
        ),
        "tensorboard": Key(True, "write TensorBoard files too"),
        "trackers": Key(
            (),
            "tell these too what metrics.jsonl has, and show them panels: wandb, mlflow",
            allowed=lambda names: all(isinstance(name, str) for name in names),
            range="of names",
        ),
        "track_encoder": Key(
            False, "give trackers the exported encoder, when the run has come to its end"
        ),
    },
}


def all_keys(schema: dict[str, Any] = SCHEMA, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Every key as (dotted name, Key), in schema order."""
    for name, entry in schema.items():
        if isinstance(entry, Key):
            yield prefix + name, entry
        else:
            yield from all_keys(entry, f"{prefix}{name}.")
