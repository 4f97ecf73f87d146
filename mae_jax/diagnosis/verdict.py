"""What measures mean, in plain words: each finding with its evidence and what to do.

The thresholds were chosen on runs of benchmarks/diagnose.py, which are others than those of the
tests.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from mae_jax.diagnosis.history import History
from mae_jax.diagnosis.pictures import Pictures


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is so.

    Attributes:
      name: in a word or two, of `NAMES`.
      says: a sentence.
      evidence: the numbers that it is told by.
      advice: what to do; nothing where all is well.
    """

    name: str
    says: str
    evidence: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that was measured.

    Attributes:
      held_out, train: of images; None without training images.
      losses: as of `measure.losses`; None of an encoder alone, or where no pixels are predicted.
      features: as of `measure.features`.
      moved: as of `measure.moved`; None without a start.
      went_on: whether the run began with weights that exist, from which it need not go far.
      history: of the run; None of weights alone.
    """

    held_out: Pictures
    train: Pictures | None
    losses: dict[str, Any] | None
    features: dict[str, Any]
    moved: float | None
    history: History | None
    went_on: bool = False


def verdict(facts: Facts) -> list[Finding]:
    """What is the matter, the likeliest cause of all else first; or that the model learns."""
    numbers = [facts.features["rank"], *([facts.losses["held_out"]] if facts.losses else [])]
    if not all(map(math.isfinite, numbers)):
        return [*_of_images(facts), _NOT_FINITE]
    found = [*_of_images(facts), *_of_settings(facts), *_of_training(facts)]
    return found or [_well(facts)]


def _of_images(facts: Facts) -> Iterator[Finding]:
    parts = [("training", facts.train), ("held-out", facts.held_out)]
    if facts.train is None:
        parts = [("", facts.held_out)]
    for part, seen in parts:
        if seen is None:
            continue
        of = f"{part} images".strip()
        if seen.broken > 0.1:
            yield Finding(
                "broken images",
                f"many {of} cannot be read",
                f"{seen.broken:.0%} of those looked at",
                "mae-jax data check names them; remove them, or copy the set again",
            )
        if seen.blank > 0.3:
            yield Finding(
                "blank images",
                f"many {of} show a single colour",
                f"{seen.blank:.0%} of {seen.images}",
                "look at some of them; where they are scans or windows of large images, leave "
                "background out (data.background_share)",
            )
        elif seen.repeated > 0.3:
            yield Finding(
                "repeated images",
                f"many {of} are there more than once",
                f"{seen.repeated:.0%} of {seen.images} are others again, pixel for pixel",
                "remove copies; a model learns as much from one of each",
            )
        elif seen.neighbours < 0.1:
            yield Finding(
                "noise",
                f"{of} look like noise, of which nothing hidden can be predicted",
                f"adjacent pixels correlate by {seen.neighbours:.2f}; in photographs by about 0.9",
                "look at some of them: is the file format read as it was written, with the right "
                "number of bits and channels?",
            )
        elif seen.classes == 1 and seen.images >= _ENOUGH:
            yield Finding(
                "little content",
                f"{of} are of one class",
                f"{seen.images} images, all with one label",
                "train on all classes; what tells them apart is otherwise never needed",
            )
        elif seen.alike > (_ALIKE_OF_ONE if seen.only_class else _ALIKE):
            one = ", and all lie in one folder, as if of one class" if seen.only_class else ""
            yield Finding(
                "little content",
                f"{of} are nearly the same",
                f"the mean image has {seen.alike:.0%} of the variance of their pixels{one}",
                ("train on other classes, too, if there are; " if one else "")
                + "take images that differ more, or crops that are smaller (data.crop_scale)",
            )
        if seen.blank <= 0.3 and (seen.shift > 1 or not 0.4 < seen.scale < 2.5):
            yield Finding(
                "mean and deviation",
                f"mean and deviation are not those of the {of}",
                f"their mean is {seen.shift:.2g} deviations away, and their deviation "
                f"{seen.scale:.2g} times the given one",
                "mae-jax data stats measures them; set data.mean and data.std",
            )


def _of_settings(facts: Facts) -> Iterator[Finding]:
    losses = facts.losses
    if losses is not None and losses["ratio"] < 0.3:
        yield Finding(
            "little is hidden",
            "so few patches are hidden that neighbours give them away",
            f"{losses['ratio']:.0%} are hidden; {_against(losses)}",
            "set model.mask_ratio to 0.6 to 0.75",
        )


def _of_training(facts: Facts) -> Iterator[Finding]:
    losses, features, history = facts.losses, facts.features, facts.history
    moved = facts.moved
    nothing = losses is not None and losses["held_out"] > 0.97 * _constant(losses)
    far = moved is not None and moved > _FAR
    if nothing and (far or (history is not None and (history.skipped or history.rose))):
        yield Finding(
            "rate too high",
            "the learning rate is too high: nothing is learned, though the weights went far",
            "; ".join([_against(losses), *_motion(facts)]),
            "divide train.base_lr by 10; warm up for longer; train.clip_norm=1.0",
        )
        return
    if history is not None and history.steps < _FEW_STEPS:
        yield Finding(
            "only begun",
            "training has only begun",
            "; ".join(
                [f"{history.steps} updates were made", *([_against(losses)] if losses else [])]
            ),
            "train on; hundreds of updates pass before anything can be told",
        )
        return
    if losses is not None and losses["visible_matters"] < _NO_CONTEXT:
        yield Finding(
            "no context",
            "predictions do not depend on what is visible",
            f"with the same mask they differ between images by {losses['visible_matters']:.2%} of "
            f"what they should; {_against(losses)}",
            "hidden patches look at visible ones in the decoder's blocks: set model.decoder_depth "
            "to 1 or more; else train for longer",
        )
        return
    if nothing and not facts.went_on and moved is not None and moved < _NEAR:
        yield Finding(
            "rate too low",
            "the learning rate is too low: the weights have hardly moved",
            "; ".join([*_motion(facts), *([_against(losses)] if losses else [])]),
            "multiply train.base_lr by 10 or more; the rate is train.base_lr x batch / 256",
        )
        return
    if losses is not None and losses["train"] is not None and _gap(losses) > _OVERFITS:
        yield Finding(
            "overfits",
            "the model knows its training images by heart",
            f"with the same masks the loss is {losses['train']:.3g} on training images and "
            f"{losses['held_out']:.3g} on held-out ones"
            + (f"; there are {history.records} images" if history and history.records else ""),
            "more images, stronger crops (data.crop_scale), fewer epochs, or go on from weights "
            "that exist (--config.init_from)",
        )
        return
    if nothing:
        yield Finding(
            "nothing learned",
            "the model predicts no better than the mean image",
            "; ".join([_against(losses), *_motion(facts)]),
            "train for longer; look at train.base_lr",
        )
    if features["spread"] < _SPREAD:
        yield Finding(
            "collapsed",
            "all images have nearly the same features",
            f"effective rank {features['rank']:.1f} of {features['rank_of']}; images differ by "
            f"{features['spread']:.2%} of the features' squared length",
            "train for longer; a learning rate that is too high does this, and images that are all "
            "alike",
        )


_NOT_FINITE = Finding(
    "not finite",
    "features or predictions are not numbers",
    "of some images they are NaN or infinite",
    "if the weights are sound (mae-jax checkpoint verify RUN), an image has values far from the "
    "mean; a learning rate that is too high ends so, too",
)
# Of all digits the mean image has 48%, of those of one class 64 to 81%.
_ALIKE, _ALIKE_OF_ONE = 0.8, 0.56
_FEW_STEPS = 100
_ENOUGH = 20  # images, to say that all are of one class
_FAR, _NEAR = 1.0, 0.03  # of the length of the encoder's kernels; good runs had 0.14 to 0.5
_OVERFITS = 0.15  # of the held-out loss
_NO_CONTEXT = 0.001  # good runs had 0.1 and more
_SPREAD = 1e-3  # good runs had 0.1 and more


def _gap(losses):
    return 1 - losses["train"] / max(losses["held_out"], 1e-12)


def _motion(facts) -> list[str]:
    said = []
    if facts.moved is not None:
        steps = "" if facts.history is None else f" in {facts.history.steps} updates"
        said.append(f"the encoder's kernels moved by {facts.moved:.2g} times their length{steps}")
    if facts.history is not None and facts.history.skipped:
        said.append(f"{facts.history.skipped} steps were skipped, as they were not finite")
    return said


def _available(losses):
    """What costs nothing. The mean of a patch is known of by a model of norm-pix targets alone."""
    free = dict(losses["free"])
    if not losses["norm_pix"]:
        del free["mean of the patch"]
    return free


def _constant(losses):
    free = _available(losses)
    return min(free[name] for name in ("mean of the patch", "mean image") if name in free)


def _against(losses) -> str:
    free = _available(losses)
    best = min(free, key=free.get)
    return f"the loss is {losses['held_out']:.3g}; what costs nothing has {free[best]:.3g} ({best})"


def _well(facts: Facts) -> Finding:
    losses, features = facts.losses, facts.features
    evidence = f"effective rank of the features {features['rank']:.1f} of {features['rank_of']}"
    if features["rank_at_start"] is not None:
        evidence += f", {features['rank_at_start']:.1f} before training"
    if losses is None:
        return Finding(
            "no loss",
            "features are not collapsed; without a decoder that predicts pixels no more is told",
            evidence,
            "give the run's work folder, or weights with their decoder",
        )
    said = "the model learns"
    advice = ""
    if losses["held_out"] > min(_available(losses).values()):
        said += ", and is not yet better than interpolation"
        advice = "train for longer"
    gap = "" if losses["train"] is None else f", {losses['train']:.3g} on training images"
    return Finding("learns", said, f"{_against(losses)}{gap}; {evidence}", advice)
