"""What `train.teacher` names, for a run to learn from."""

from pathlib import Path

from mae_jax import config as config_lib
from mae_jax import pixels
from mae_jax.config.architecture import dimension_arguments
from mae_jax.errors import UsageError
from mae_jax.models import sizes
from mae_jax.train.objectives import compute_dtype
from mae_jax.train.teacher import Read, Teacher
from mae_jax.weights import adapt, keymap, start
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read as read_weights


def read(config, folder: str | Path | None = None) -> Read | None:
    """The teacher that a config names, for its images; None where it names none.

    Images are cut into as many patches as the student cuts them into: where the teacher's are of
    another size, it sees them resized, and its positions are interpolated.

    Args:
      config: of a run, adopted and not yet settled; of a name of the hub it says the commit then.
      folder: of the run, which may have been begun.

    Raises:
      UsageError: as `read.read`, or the teacher was given another kind of images.
    """
    source = config.train.teacher
    if source is None:
        return None
    config_lib.validate(config)
    start.pin(config, [] if folder is None else [folder], "train.teacher")
    source = config.train.teacher
    weights = read_weights(source, part="encoder").encoder()
    digest = weights.sha256()
    weights = _seeing(weights, config)
    arguments = dict(
        class_token=weights.class_tokens,
        registers=weights.registers,
        final_norm=not weights.mean_pool,
        gelu=weights.gelu,
        dtype=compute_dtype(config.model.dtype),
        scan=config.model.scan,
    )
    teacher = Teacher(
        weights.dimensions,
        tuple(sorted(arguments.items())),
        weights.pixels,
        # A classifier that averages patches has a class token that nobody reads.
        class_token=weights.class_token and not weights.mean_pool,
    )
    params = {"encoder": keymap.tree(weights.tensors)["encoder"]}
    return Read(teacher, str(source), params, digest)


def _seeing(weights: Weights, config) -> Weights:
    """For the images of a config."""
    source = repr(config.train.teacher)
    try:
        student = sizes.resolve(**dimension_arguments(config))
    except ValueError as error:
        raise UsageError(f"config section model: {error}") from None
    ours, theirs = student.channels, weights.dimensions.channels
    if ours != theirs and (ours, theirs) != (1, 3):
        raise UsageError(
            f"train.teacher {source} sees images of {theirs} channels, and model.channels is "
            f"{ours}; a teacher of the same number is needed, or one of colour for grey images"
        )
    settled = config.copy_and_resolve_references()
    pixels.settle(settled)
    kind = pixels.Pixels.from_config(settled).kind
    if weights.pixels.kind != kind:
        raise UsageError(
            f"train.teacher {source} was given pixels of {weights.pixels.kind}, and data.pixels is "
            f"{kind!r}; a teacher of the same is needed, as values mean something else"
        )
    size = tuple(
        count * side
        for count, side in zip(student.grid, weights.dimensions.patch_size, strict=True)
    )
    return adapt.fitted(weights, size)
