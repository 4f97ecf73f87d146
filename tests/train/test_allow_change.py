"""--allow_change: what makes another run may change where a person says so."""

import copy
import json
import shutil

import pytest

from mae_jax import cli
from mae_jax.errors import UsageError
from mae_jax.train import loop, metrics


@pytest.fixture(scope="module")
def made(new_digits_config, tmp_path_factory):
    """The work folder of a run of 6 steps, saved at 3 and 6, and its config."""
    folder, config = tmp_path_factory.mktemp("made") / "run", new_digits_config()
    config.log.eval_every_epochs = config.log.panel_every_epochs = 10
    config.model.depth, config.train.steps = 1, 6
    loop.run(config, folder, quiet=True)
    return folder, config


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, and a config that asks for two steps more."""
    folder, config = tmp_path / "run", copy.deepcopy(made[1])
    shutil.copytree(made[0], folder)
    config.train.steps = 8
    return folder, config


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_protected_key_changes_where_it_is_allowed_and_that_is_written_down(run):
    folder, config = run
    config.train.base_lr, config.train.beta1 = 0.02, 0.8
    with pytest.raises(
        UsageError,
        match=r"or --allow_change=train\.base_lr,train\.beta1, which lets them change\. Different "
        r"are: train\.base_lr: 0\.01 -> 0\.02; train\.beta1: 0\.9 -> 0\.8$",
    ):
        loop.run(config, folder, quiet=True)
    with pytest.raises(UsageError, match=r"or --allow_change=train\.beta1, which lets it change"):
        loop.run(config, folder, quiet=True, allow_change=["train.base_lr"])
    both = ["train.base_lr", "train.beta1"]
    for _ in range(2):  # the same command again finds no difference, and is right
        assert loop.run(config, folder, quiet=True, allow_change=both)["steps"] == 8
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["train"]["base_lr"] == 0.02
    (change,) = record["changed"]
    assert change["step"] == 6 and change["allowed"] == both
    assert {"train.base_lr: 0.01 -> 0.02", "train.steps: 6 -> 8"} <= set(change["keys"])
    assert loop.run(config, folder, quiet=True)["steps"] == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train.base_lr", r"train\.base_lr changes nothing: train\.base_lr is 0\.01 in .* too"),
        ("train.basis_lr", r"'train\.basis_lr' is unknown; did you mean 'train\.base_lr'"),
        ("log.knn", r"--allow_change=log\.knn is not needed: log\.knn may change as it is"),
        ("parallel.fsdp", "is not needed"),
        ("data", "--allow_change=data changes nothing: the data is what it was"),
    ],
)
def test_what_there_is_no_need_to_allow(run, name, message):
    folder, config = run
    before = contents(folder)
    with pytest.raises(UsageError, match=message):
        loop.run(config, folder, quiet=True, allow_change=[name])
    assert contents(folder) == before


def test_a_run_that_is_not_begun_has_nothing_to_allow(run, tmp_path):
    with pytest.raises(UsageError, match=r"--allow_change=seed: there is no checkpoint in .*/new'"):
        loop.run(run[1], tmp_path / "new", quiet=True, allow_change=["seed"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("model.decoder_width", 32, r"model/params/decoder/\S+ is \(.*16.*\) in it, and \(.*32.*"),
        (
            "model.depth",
            2,
            r"model/params/encoder/blocks/1/\S+ is \(.*\) with these settings, and",
        ),
        ("train.optimizer", "lars", r"optimizer/opt_state/\S+ is \(.*\) with these settings, and"),
        ("train.ema", 0.9, r"model/ema/\S+ is \(.*\) with these settings, and is not in it"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_state_of_other_shapes_is_one_sentence_and_nothing_is_lost(run, key, value, why, old):
    folder, config = run
    if old:  # what has no manifest and cannot be restored might be taken for damaged
        for path in folder.glob("checkpoints/*/manifest.json"):
            path.unlink()
        for path in folder.glob("checkpoints/*/position/metadata"):
            path.write_text(path.read_text().replace('"manifest": true', '"manifest": false'))
    config.update_from_flattened_dict({key: value})
    before = contents(folder)
    with pytest.raises(UsageError, match=rf"checkpoint 6 in .* is of another state: {why}"):
        loop.run(config, folder, quiet=True, allow_change=[key])
    assert contents(folder) == before


def test_other_data_goes_on_in_the_order_of_what_there_is(photos, tmp_path, made, capsys):
    folder, config = tmp_path / "photos", copy.deepcopy(made[1])
    shutil.copytree(photos, folder)
    config.data.name, config.data.folder = None, str(folder)
    config.data.split, config.data.eval_split = "all", None
    config.train.steps, config.train.warmup_epochs = 2, 0.0
    loop.run(config, tmp_path / "run", quiet=True)
    shutil.copy(next(folder.glob("*.jpg")), folder / "more.jpg")
    config.train.steps = 3
    with pytest.raises(UsageError, match=r"or --allow_change=data to go on in the new order\. Dif"):
        loop.run(config, tmp_path / "run", quiet=True)
    for _ in range(2):
        loop.run(config, tmp_path / "run", allow_change=["data"])
    said = capsys.readouterr().err
    assert said.count("from step 2 on, batches are those of a run that had it so from its sta") == 1
    (change,) = json.loads((tmp_path / "run" / "config.json").read_text())["changed"]
    assert change["allowed"] == ["data"] and "data.records: 200 -> 201" in change["keys"]
    assert [line["step"] for line in metrics.read(tmp_path / "run")] == [1, 2, 3]
    # The size of a batch decides the order too, and is a key.
    config.train.steps, config.data.batch_size = 4, 8
    loop.run(config, tmp_path / "run", allow_change=["data.batch_size"])
    assert "from step 3 on, batches are those" in capsys.readouterr().err


def test_the_flag_takes_several_keys(made, capsys):
    command = ["mae-jax", "pretrain", "--config=configs/digits.py", f"--workdir={made[0]}"]
    assert cli.main([*command, "--allow_change=train.base_lr,model.widht"]) == 2
    assert "'model.widht' is unknown; did you mean 'model.width'" in capsys.readouterr().err
