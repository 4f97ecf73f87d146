"""A diagnosis: measures of a model on images without labels, and what they mean."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import config_dict

from mae_jax import config as config_lib
from mae_jax.config.cross_checks import check_windows
from mae_jax.data import sources
from mae_jax.data.progress import say
from mae_jax.diagnosis import history, measure, neighbours, verdict
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference.views import pixels_for
from mae_jax.pixels import Pixels
from mae_jax.train import workdir
from mae_jax.train.objectives import Reconstruct
from mae_jax.weights import adapt
from mae_jax.weights.described import Weights

COUNT = 512  # images of each part
JSON, SHEET = "diagnosis.json", "neighbours.png"
_SEED = 0


def diagnose(
    weights: Weights,
    *,
    images: str | Path | None = None,
    config: Any = None,
    out: str | Path | None = None,
    count: int = COUNT,
) -> dict[str, Any]:
    """Says whether a model is learning, and if not, why.

    Args:
      weights: of a work folder, which says its data, its start and its history; or of any source.
      images: to look at, as held-out ones, instead of the run's own.
      config: of a run that names other images.
      out: a folder for `diagnosis.json` and a sheet of nearest neighbours.
      count: images of each part, at most.

    Returns:
      `verdict`, a list of findings with their evidence and advice; `losses`, `features`, `images`
      and `run`, as measured; and where the sheet lies.

    Raises:
      UsageError: no images are known of, or they are of another kind; or `out` cannot be written.
      BrokenRecord: none of them can be read.
    """
    if count < 2:
        raise UsageError(f"--count={count} must be at least 2")
    folder = _made(out)
    run = _run_of(weights)
    held, train = _samples(weights, images, config or (run and run.config), count)
    model = measure.of_weights(weights)
    losses = None
    if measure.predicts_pixels(weights):
        say(f"hiding patches of {len(held.images)} held-out images")
        losses = measure.losses(model, weights, held, train, _SEED)
    start = _start(weights, run)
    say("comparing features")
    features, vectors = measure.features(model, start, held, train)
    facts = verdict.Facts(
        held_out=held.facts,
        train=None if train is None else train.facts,
        losses=losses,
        features=features,
        moved=None if start is None else measure.moved(weights, start),
        history=None if run is None else run.history,
        went_on=run is not None and run.config.init_from is not None,
    )
    result: dict[str, Any] = {
        "verdict": [dataclasses.asdict(finding) for finding in verdict.verdict(facts)],
        "losses": losses,
        "features": features | {"moved": facts.moved},
        "images": {
            name: dataclasses.asdict(seen)
            for name, seen in (("held out", facts.held_out), ("training", facts.train))
            if seen is not None
        },
        "run": None if facts.history is None else dataclasses.asdict(facts.history),
        "source": str(weights.origin.get("source")),
        "step": weights.origin.get("step"),
    }
    if folder is not None:
        drawn = held.images if train is None else np.concatenate([held.images, train.images])
        neighbours.sheet(drawn, vectors, len(held.images), weights.pixels).save(folder / SHEET)
        (folder / JSON).write_text(json.dumps(result, indent=1) + "\n")
        result["sheet"] = str(folder / SHEET)
    return result


@dataclasses.dataclass(frozen=True)
class _Run:
    config: config_dict.ConfigDict
    history: history.History


def _run_of(weights: Weights) -> _Run | None:
    """The run that weights are of, where its work folder is at hand."""
    origin = weights.origin
    folder = Path(str(origin.get("source")))
    if origin.get("config") is None or not (folder / "checkpoints").is_dir():
        return None
    config = config_lib.default_config()
    config.update(config_dict.ConfigDict(config_lib.with_defaults(workdir.read_config(folder))))
    data = origin.get("data") or {}
    records = data.get("records") if isinstance(data, dict) else None
    return _Run(config, history.of_run(folder, origin["step"], origin.get("steps"), records))


def _samples(weights, images, config, count):
    if images is not None:
        return _sampled(sources.open_images(images), weights.pixels, count, "images"), None
    if config is None:
        raise UsageError(
            f"{weights.origin.get('source')!r} does not say what it was trained on; give --images"
        )
    data = config.data
    if not (data.name or data.folder or data.mixture):
        raise UsageError("the config names no images; set data.folder or data.name")
    pixels = pixels_for(weights, config)
    data.nodata = pixels.nodata  # by which windows tell background
    check_windows(data)
    train = sources.open_source(data, data.split)
    if data.eval_split is None:
        say("the config names no held-out images: overfitting cannot be told")
        return _sampled(train, pixels, count, "training images"), None
    held = sources.open_source(data, data.eval_split, train.classes)
    return (
        _sampled(held, pixels, count, "held-out images"),
        _sampled(train, pixels, count, "training images"),
    )


def _sampled(source, pixels: Pixels, count, what) -> measure.Sample:
    if len(source) < 2:
        raise UsageError(f"there is one of the {what} alone, and at least two are compared")
    say(f"reading {min(count, len(source))} of {len(source)} {what}")
    found = measure.sample(source, pixels, count, _SEED)
    if len(found.images) < 2:
        raise BrokenRecord(f"fewer than two of the {what} that were looked at can be read")
    return found


def _start(weights: Weights, run: _Run | None) -> measure.Model | None:
    """The model that the run began with; None where that is not known."""
    if run is None or run.config.train.objective not in config_lib.PRETRAINING:
        return None
    if run.config.init_from is not None:
        return _other_start(weights, run.config)
    config = run.config
    config.model.image_size = weights.dimensions.image_size
    if config.train.teacher is not None:
        # An encoder is drawn before all else, so that it began as any other with its dimensions.
        config.model.target, config.train.teacher = "pixels", None
        if config.train.objective == "distill":  # what is of decoders and masks was not used
            config.model.mask_tokens_in_encoder = False
            config.model.mask_ratio, config.model.mask_unit = 0.5, 1
    try:
        objective = Reconstruct.from_config(config)
    except (UsageError, ValueError) as error:  # a function of the user's that is gone, or no masks
        say(f"features are not compared with those of the start: {error}")
        return None
    model = objective.create(nnx.Rngs(jax.random.key(run.config.seed)))
    return measure.Model(model, weights.pixels)


def _other_start(weights, config):
    from mae_jax.weights.read import read

    try:
        before = adapt.fitted(read(config.init_from, part="encoder"), weights.dimensions.image_size)
        changed = [
            name
            for name in ("patch_size", "channels")
            if getattr(before.dimensions, name) != getattr(weights.dimensions, name)
        ]
        if changed or config.init_channels:
            raise UsageError("the run began with other patches or channels than its source has")
    except UsageError as error:  # it may be gone, or read by a mask of one's own
        say(f"features are not compared with those of the start: {error}")
        return None
    return measure.of_weights(dataclasses.replace(before, pixels=weights.pixels))


def _made(out) -> Path | None:
    if out is None:
        return None
    folder = Path(out).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{JSON}").write_text("")
        (folder / f".{JSON}").unlink()
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return folder
