import pytest

from mae_jax.errors import UsageError
from mae_jax.evaluation import robustness


def test_mce_of_alexnet_is_one():
    top1 = {
        f"{corruption}/{severity}": 1 - error
        for corruption, error in robustness.ALEXNET.items()
        for severity in robustness.SEVERITIES
    }
    errors = robustness.corruption_errors(top1)
    assert len(errors) == 16 and all(value == pytest.approx(1) for value in errors.values())
    perfect = robustness.corruption_errors(dict.fromkeys(top1, 1.0))
    assert perfect["mCE"] == 0
    worse = top1 | {f"fog/{s}": 1 - 0.5 * robustness.ALEXNET["fog"] for s in (1, 2, 3, 4, 5)}
    assert robustness.corruption_errors(worse)["mCE"] == pytest.approx(1 - 0.5 / 15)


def test_sets_are_what_tfds_has():
    import tensorflow_datasets as tfds

    known = set(tfds.list_builders())
    for kind in robustness.SETS.values():
        assert {part.data_set.split("/")[0] for part in kind.parts} <= known
    corrupted = tfds.builder_cls("imagenet2012_corrupted").builder_configs
    parts = robustness.SETS["imagenet_c"].parts
    assert len(parts) == 75 and {p.data_set.split("/")[1] for p in parts} <= corrupted.keys()


@pytest.mark.parametrize("place", ["imagenet-c/snow/3", "imagenet-c/weather/snow/3", "snow/3"])
def test_folders_as_the_archives_unpack(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    part = next(p for p in robustness.SETS["imagenet_c"].parts if p.name == "snow/3")
    assert part.folder(tmp_path) == tmp_path / place


def test_a_folder_that_lacks(tmp_path):
    with pytest.raises(UsageError, match="has no folder imagenet-sketch or sketch"):
        robustness.SETS["imagenet_sketch"].parts[0].folder(tmp_path)
