"""Which cause is named, by what was measured of runs of benchmarks/diagnose.py."""

import dataclasses

import pytest

from mae_jax.diagnosis.history import History
from mae_jax.diagnosis.pictures import Pictures
from mae_jax.diagnosis.verdict import Facts, verdict

FREE = {
    "mean of the patch": 0.94, "mean image": 0.8, "nearest visible patch": 0.9,
    "smooth interpolation": 0.7,
}  # fmt: skip
IMAGES = Pictures(
    images=300, broken=0, blank=0, repeated=0, neighbours=0.9, alike=0.2, shift=0.1, scale=1.0,
    classes=10,
)  # fmt: skip
LOSSES = {
    "held_out": 0.5, "train": 0.49, "free": FREE, "ratio": 0.75, "norm_pix": True,
    "visible_matters": 0.3, "bands": {},
}  # fmt: skip
FEATURES = {
    "rank": 20.0, "rank_of": 64, "largest": 0.3, "largest_ten": 0.9, "spread": 0.2,
    "like_start": 0.2, "rank_at_start": 4.0,
}  # fmt: skip
RUN = History(steps=5000, planned=5000, records=10000, skipped=0, rose=False)
GOOD = Facts(IMAGES, IMAGES, LOSSES, FEATURES, 0.2, RUN)


def changed(images=None, losses=None, features=None, run=None, **rest):
    seen = dataclasses.replace(IMAGES, **(images or {}))
    return dataclasses.replace(
        GOOD,
        train=seen,
        losses=LOSSES | {"train": (losses or LOSSES).get("held_out", 0.5)} | (losses or {}),
        features=FEATURES | (features or {}),
        history=dataclasses.replace(RUN, **(run or {})),
        **rest,
    )


def names(facts):
    found = verdict(facts)
    assert all(one.says and one.evidence for one in found)
    assert all(one.advice for one in found if one.name != "learns")
    return [one.name for one in found]


@pytest.mark.parametrize(
    "name, facts",
    [
        ("learns", GOOD),
        ("learns", dataclasses.replace(GOOD, train=None, moved=None, history=None)),
        ("rate too high", changed(losses={"held_out": 0.93, "visible_matters": 0.0}, moved=2.9)),
        ("rate too high", changed(losses={"held_out": 0.93}, run={"skipped": 4}, moved=0.4)),
        ("rate too low", changed(losses={"held_out": 0.93}, moved=0.005)),
        ("only begun", changed(losses={"held_out": 0.93}, run={"steps": 1}, moved=0.001)),
        ("overfits", changed(losses={"held_out": 0.9, "train": 0.07}, moved=0.5)),
        ("no context", changed(losses={"held_out": 0.79, "visible_matters": 0.0001})),
        ("nothing learned", changed(losses={"held_out": 0.79})),
        ("collapsed", changed(features={"spread": 1e-5, "rank": 1.1})),
        ("broken images", changed(images={"broken": 0.5})),
        ("blank images", changed(images={"blank": 1.0, "neighbours": 1.0, "scale": 0.0})),
        ("repeated images", changed(images={"repeated": 0.9})),
        ("noise", changed(images={"neighbours": 0.0})),
        ("little content", changed(images={"classes": 1})),
        ("little content", changed(images={"classes": None, "alike": 0.95})),
        ("little content", changed(images={"classes": None, "alike": 0.6, "only_class": True})),
        ("mean and deviation", changed(images={"shift": 4.0, "scale": 10.0})),
        ("little is hidden", changed(losses={"ratio": 0.06})),
    ],
)
def test_causes(name, facts):
    assert names(facts)[0] == name


def test_of_raw_pixels_nothing_says_the_mean_of_a_patch():
    raw = {"norm_pix": False, "free": FREE | {"mean of the patch": 0.1}}
    assert names(changed(losses=raw)) == ["learns"]
    assert "mean of the patch" not in verdict(changed(losses=raw))[0].evidence


def test_an_encoder_alone_has_no_loss():
    alone = dataclasses.replace(GOOD, losses=None, train=None, moved=None, history=None)
    (found,) = verdict(alone)
    assert found.name == "no loss" and "its decoder" not in found.evidence
    assert names(dataclasses.replace(alone, features=FEATURES | {"spread": 0.0})) == ["collapsed"]


def test_several_causes_are_told_the_likeliest_first():
    both = changed(images={"shift": 5.0, "scale": 9.0}, losses={"held_out": 0.9, "train": 0.1})
    assert names(both) == ["mean and deviation", "overfits"]


def test_weights_that_hardly_moved_may_be_right():
    assert names(changed(moved=0.001)) == ["learns"]
    assert names(changed(losses={"held_out": 0.93}, moved=0.0, went_on=True)) == ["nothing learned"]


def test_what_is_no_number_is_said_first():
    assert names(changed(features={"rank": float("nan")})) == ["not finite"]
    assert names(changed(losses={"held_out": float("nan")})) == ["not finite"]
    assert names(changed(images={"classes": 1, "images": 5})) == ["learns"]
    assert names(changed(images={"classes": None, "alike": 0.6})) == ["learns"]
    assert names(changed(images={"classes": None, "alike": 0.3, "only_class": True})) == ["learns"]


def test_not_yet_better_than_interpolation():
    (found,) = verdict(changed(losses={"held_out": 0.75}))
    assert found.name == "learns" and "not yet better than interpolation" in found.says
