"""What several config keys, or keys and devices, must fulfil together."""

import math

from ml_collections import config_dict

from mae_jax.config.architecture import dimension_arguments, settled_model
from mae_jax.errors import UsageError
from mae_jax.pixels import NO_STATISTICS, nodata_needs_floats


def check_together(config: config_dict.ConfigDict, *, trains: bool) -> None:
    """Raises UsageError unless the keys, each of them right by itself, fit together.

    Args:
      config: every key of the schema, each in its range.
      trains: whether there is a training, which must say how long it is.
    """
    data, train, model = config.data, config.train, settled_model(config)
    named = (data.name is not None) + (data.folder is not None) + bool(data.mixture)
    if not named:
        raise UsageError(
            "no images are named; say where they lie, --config.data.folder=PHOTOS, or give a tfds "
            "data set's name, --config.data.name=NAME"
        )
    if named > 1:
        raise UsageError(
            f"exactly one of data.name (now {data.name!r}), data.folder (now {data.folder!r}) and "
            f"data.mixture (now {data.mixture!r}) must be set"
        )
    if trains and (train.epochs is None) == (train.steps is None):
        raise UsageError(
            f"exactly one of train.epochs (now {train.epochs}) and train.steps "
            f"(now {train.steps}) must be set"
        )
    for name in ("mean", "std"):
        if len(data[name]) not in (0, 1, model.channels):
            raise UsageError(
                f"data.{name} {data[name]} must have one value per channel, "
                f"{model.channels} of them"
            )
    if data.pixels == "float32" and not (data.mean and data.std):
        raise UsageError(NO_STATISTICS)
    if data.nodata is not None and data.pixels != "float32":
        raise UsageError(nodata_needs_floats(data.nodata, data.pixels))
    if data.nodata == "alpha" and model.channels in (2, 4):
        raise UsageError(
            f"data.nodata 'alpha' takes transparency for what it says of other channels, and "
            f"model.channels {model.channels} keeps it as one; set it to {model.channels - 1}"
        )
    if data.nodata is not None and train.objective == "reconstruct" and model.target != "pixels":
        raise UsageError(
            f"model.target {model.target!r} is of whole patches, and with data.nodata "
            f"{data.nodata!r} some of their pixels have no data; set it to 'pixels'"
        )
    _check_start(config)
    _check_teacher(config, model.target)
    check_windows(data)
    if data.labels is not None and data.folder is None:
        raise UsageError(f"data.labels {data.labels!r} goes with data.folder, which is not set")
    if data.labels_per_class is not None and data.labels_share is not None:
        raise UsageError(
            f"at most one of data.labels_per_class (now {data.labels_per_class}) and "
            f"data.labels_share (now {data.labels_share}) may be set"
        )
    for name in ("randaugment", "color_jitter"):
        if data[name] and data.pixels == "float32":
            raise UsageError(
                f"data.{name} {data[name]} works on uint8, and data.pixels is {data.pixels!r}; "
                f"set data.{name}=0"
            )
        if data[name] and model.channels not in (1, 3):
            raise UsageError(
                f"data.{name} {data[name]} needs grey or colour images; model.channels is "
                f"{model.channels}"
            )
    peak = train.base_lr * data.batch_size / 256
    if trains and train.min_lr > peak:
        raise UsageError(
            f"train.min_lr {train.min_lr:g} must be at most the peak of the learning rate, "
            f"train.base_lr {train.base_lr:g} times data.batch_size / 256: {peak:g}"
        )
    if data.batch_size % train.accumulate:
        raise UsageError(
            f"data.batch_size {data.batch_size} is not divisible by train.accumulate "
            f"{train.accumulate}"
        )

    from mae_jax.models import sizes  # not above: it brings jax

    try:
        dimensions = sizes.resolve(**dimension_arguments(config))
        sizes.check_decoding(
            model.decode_ratio,
            model.decoder_attention,
            model.loss_on,
            model.mask_tokens_in_encoder,
        )
        if train.objective == "reconstruct":
            sizes.check_mask_ratio(model.mask_ratio, dimensions.grid, model.mask_unit)
    except ValueError as error:
        raise UsageError(f"config section model: {error}") from None
    values = math.prod(dimensions.patch_size) * dimensions.channels
    if train.objective == "reconstruct" and model.target == "pca" and model.pca_components > values:
        raise UsageError(
            f"model.pca_components {model.pca_components} is more than the {values} values of a "
            "patch, which has no more principal components"
        )
    if model.class_tokens > 1 and not model.class_token:
        raise UsageError(
            f"model.class_tokens {model.class_tokens} needs model.class_token=True, and it is False"
        )
    if model.pool == "token" and not model.class_token:
        raise UsageError("model.pool 'token' needs model.class_token=True")
    if train.objective == "probe" and model.pool != "token":
        raise UsageError(
            f"model.pool {model.pool!r} does not go with train.objective 'probe', which reads the "
            "class token; set it to 'token'"
        )
    if train.trained_blocks is not None and train.trained_blocks > dimensions.depth:
        raise UsageError(
            f"train.trained_blocks {train.trained_blocks:g} is more than the encoder's "
            f"{dimensions.depth} blocks"
        )


def _check_start(config):
    """What goes with `init_from` alone."""
    train = config.train
    if config.init_part == "full" and train.objective != "reconstruct":
        raise UsageError(
            f"init_part 'full' is of pre-training, and train.objective is {train.objective!r}, "
            "which starts from the encoder; leave it out"
        )
    if config.init_from is not None:
        return
    for name, value in (
        ("init_part", config.init_part),
        ("init_channels", config.init_channels),
        ("train.settle_epochs", train.settle_epochs),
        ("train.settle_steps", train.settle_steps),
    ):
        if value:
            raise UsageError(f"{name} {value!r} goes with init_from, which is not set")


def _check_teacher(config, target):
    """What a teacher goes with, and what goes with a teacher alone."""
    train, data = config.train, config.data
    needs = None
    if train.objective == "distill":
        needs = "train.objective 'distill'"
    elif train.objective == "reconstruct" and target == "features":
        needs = "model.target 'features'"
    if needs is None and train.teacher is not None:
        raise UsageError(
            f"train.teacher {train.teacher!r} goes with train.objective 'distill' or, in "
            "pre-training, model.target 'features'; set one of them, or leave the teacher out"
        )
    if needs is not None and train.teacher is None:
        raise UsageError(
            f"{needs} needs train.teacher, whose tokens are learned: a work folder, or any other "
            "SOURCE of `mae-jax --help`"
        )
    if train.objective == "distill" and data.nodata is not None:
        raise UsageError(
            f"train.objective 'distill' is of whole patches, and with data.nodata {data.nodata!r} "
            "some of their pixels have no data; pre-train on these images by 'reconstruct'"
        )


def check_windows(data) -> None:
    """Raises UsageError unless what a config's `data` section says of windows fits together."""
    if data.window is None:
        for name, nothing in (("background", ()), ("background_share", 1.0)):
            if data[name] != nothing:
                raise UsageError(
                    f"data.{name} {data[name]} is of windows, and data.window is not set"
                )
        return
    if data.name is not None:
        raise UsageError(
            f"data.window {data.window} is of TIFF files in data.folder, and data.name is "
            f"{data.name!r}"
        )
    if data.window**2 > data.max_pixels:
        raise UsageError(
            f"data.window {data.window} squared is more than data.max_pixels {data.max_pixels}"
        )
    if data.cache:
        raise UsageError(
            f"data.cache keeps images whole, and data.window {data.window} reads parts of them; "
            "set data.cache=False"
        )
    known = bool(data.background) or data.nodata is not None
    if data.background_share < 1 and not known:
        raise UsageError(
            f"data.background_share {data.background_share} needs data.background or data.nodata, "
            "which say what background is"
        )
    if data.background and data.background_share == 1:
        raise UsageError(
            f"data.background {data.background} leaves no window out as long as "
            "data.background_share is 1.0; set it below"
        )


def check_batch(batch_size: int, devices: int, accumulate: int) -> None:
    """Raises UsageError unless every part of a batch spreads evenly.

    Args:
      batch_size: images per step.
      devices: that the batch is spread over; those that share images count as one.
      accumulate: parts of a batch.
    """
    unit = devices * accumulate
    if batch_size % unit:
        below = batch_size // unit * unit
        near = f"{below} or {below + unit}" if below else str(unit)
        raise UsageError(
            f"data.batch_size {batch_size} is not divisible by {devices} devices"
            + (f" times train.accumulate {accumulate}" if accumulate > 1 else "")
            + f"; the nearest that is: {near}"
        )
