"""Verbs as functions of `mae_jax`: what they take and give."""

import importlib.util
import inspect

import numpy as np
import pytest

import mae_jax
from mae_jax import api
from mae_jax.commands import verbs
from mae_jax.commands.verb import Verb
from mae_jax.errors import UsageError


def test_every_verb_that_is_no_group_is_there_with_its_help():
    known = {name for name, verb in verbs().items() if isinstance(verb, Verb)}
    assert set(api.VERBS) == known - {"completion"}
    assert "overrides" in inspect.signature(mae_jax.pretrain).parameters
    assert mae_jax.pretrain.__doc__.startswith("Train a masked autoencoder")
    assert set(api.VERBS) <= set(mae_jax.__all__)
    # A package of a verb's name would take its place once it is imported.
    specs = [importlib.util.find_spec(f"mae_jax.{name}") for name in api.VERBS]
    assert not [spec.name for spec in specs if spec is not None and spec.origin]


def test_a_config_built_by_hand_trains_resumes_and_gives_what_it_measured(digits_config, tmp_path):
    shorter = {"train.steps": 4, "log.panel_every_epochs": 1, "data.std": [0.5]}
    run = mae_jax.pretrain(digits_config, tmp_path / "run", overrides=shorter, quiet=True)
    assert run.steps == 4 == run["steps"] and np.isfinite(run.measures["loss"])
    assert digits_config.train.steps == 8  # what is given stays as it is
    panel = run.pictures["panel"]
    assert panel.dtype == np.uint8 and panel.ndim == 3 and panel.shape[2] == 3
    again = mae_jax.pretrain(digits_config, tmp_path / "run", overrides=shorter, quiet=True)
    assert again == run
    with pytest.raises(AttributeError, match="no 'loss'; there are workdir, steps, measures"):
        run.loss  # noqa: B018


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"train.step": 4}, "'train.step' is unknown; did you mean 'train.steps'"),
        ({"train.steps": "4"}, "train.steps is '4'; it must be"),
        ({"model.mask_ratio": 7}, "model.mask_ratio is 7; it must be a number from 0.0 to 1.0"),
        ({"data.folder": 3}, "data.folder is 3"),
        ({"train.objective": "classify"}, "train.objective is 'classify'; this verb needs"),
    ],
)
def test_overrides_that_cannot_be(digits_config, tmp_path, overrides, said):
    with pytest.raises(UsageError, match=said):
        mae_jax.pretrain(digits_config, tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_data_that_overrides_name_replaces_that_of_the_config(digits_config, tmp_path, photos):
    from mae_jax.commands import configs

    config = configs.read(digits_config, overrides={"data.folder": photos})
    assert config.data.folder == str(photos) and config.data.name is None


def test_one_of_several_needs_no_list(digits_config, tmp_path):
    digits_config.train.steps = 2
    run = mae_jax.pretrain(digits_config, tmp_path / "run", quiet=True)
    probed = mae_jax.probe(
        run.workdir, config=digits_config, methods="knn", out=tmp_path / "probe",
        overrides={"data.labels_per_class": 5},
    )  # fmt: skip
    assert len(probed.encoders) == 1
