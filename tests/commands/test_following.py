"""What a run says at its end: lines that can be typed next."""

import json
import shlex
from pathlib import Path

import pytest

from mae_jax import cli, hosts
from mae_jax.commands import flags, verbs
from mae_jax.config import default_config
from mae_jax.train import loop


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """Runs in the working folder end as soon as they begin; says what one of them is of."""
    monkeypatch.chdir(tmp_path)

    def of(folder):
        def run(config, workdir, **options):
            config = default_config()
            config.data.folder = folder
            place = Path(workdir).absolute()
            (place / "checkpoints").mkdir(parents=True, exist_ok=True)
            (place / "config.json").write_text(json.dumps({"config": config.to_dict()}))
            return {"workdir": str(place), "measures": {"eval_accuracy": 0.5}}

        monkeypatch.setattr(loop, "run", run)

    return of


def commands(lines):
    """What is said to be next; each is a verb with flags and keys that there are."""
    at = lines.index("next, with your own names in the place of capitals:")
    found = [shlex.split(line) for line in lines[at + 1 :]]
    for words in found:
        known = [word for word in words[2:] if word != "--config=FILE"]
        if known == words[2:]:
            flags.parse(verbs()[words[1]], ["mae-jax", *known])
    return found


def call(capsys, *arguments):
    assert cli.main(["mae-jax", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("folder", [None, "PHOTOS"])
def test_after_pretraining(capsys, ended, tmp_path, folder):
    ended(folder)
    arguments = ["pretrain", "--config=configs/digits.py", "--workdir=runs/a b"]
    lines = call(capsys, *arguments).splitlines()
    assert f"workdir      {tmp_path}/runs/a b" in lines
    probe, tune, export = commands(lines)
    assert probe[:3] == ["mae-jax", "probe", "runs/a b"] and "--out=runs/a b-probe" in probe
    assert tune[1] == "finetune" and "--config.init_from=runs/a b" in tune
    assert export[1:3] == ["export", "runs/a b"]
    for words, config in ((probe, "configs/folder_probe.py"), (tune, "configs/folder_finetune.py")):
        assert f"--config={config if folder else 'FILE'}" in words
        assert ("--config.data.split=all[:80%]" in words) == (folder is not None)
    assert json.loads(call(capsys, *arguments, "--json"))["workdir"] == f"{tmp_path}/runs/a b"


@pytest.mark.parametrize(
    ("more", "run"), [("--draws=1", "runs/tuned"), ("--draws=2", "runs/tuned/scratch-0")]
)
def test_after_finetuning(capsys, ended, more, run):
    ended("LABELLED")
    arguments = ["finetune", "--config=configs/digits_finetune.py", "--workdir=runs/tuned", more]
    predict, export = commands(call(capsys, *arguments).splitlines())
    assert predict[1:3] == ["predict", run] and export[1:3] == ["export", run]
    json.loads(call(capsys, *arguments, "--json"))


def test_one_process_speaks(capsys, ended, monkeypatch):
    ended(None)
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    assert call(capsys, "pretrain", "--config=configs/digits.py", "--workdir=run") == ""
