"""Runs what README and the pages of docs/ tell a reader to type: `make docs-test`.

Every block runs by itself, in a folder that has what a reader has by then: photographs, runs.
Models are tiny and train for three steps, so that this shows that commands work and not how well.
What installs is left out; what cannot run here says so on its page.
"""

import os
import shutil

import page_commands
import pytest
from page_commands import PAGES, TOP

from mae_jax import cli

_STEPS = [
    "--config.train.epochs=None",
    "--config.train.steps=3",
    "--config.train.warmup_epochs=0",
    "--config.data.workers=0",
    "--config.log.panel_every_epochs=1e6",
    "--config.log.tensorboard=False",
]
_TINY = [
    "--config.model.size=tiny",
    "--config.model.depth=1",
    "--config.model.decoder_depth=1",
    "--config.model.image_size=32",
    "--config.model.patch_size=8",
    "--config.data.batch_size=8",
]
_SHORT = ["--config.train.steps=3", "--config.train.warmup_steps=1"]
_INSTALLS = ("pip", "python3", ".venv/bin/pip")
# A reader's other encoders, in place of which stands the one that was made here.
_STAND_INS = {"OTHER": "runs/digits", "SOURCE": "runs/photos"}
_MADE = (
    "mae-jax pretrain --config=configs/digits.py --workdir=runs/digits",
    "mae-jax pretrain --config=configs/folder.py --config.data.folder=PHOTOS --workdir=runs/photos",
    "mae-jax finetune --config=configs/digits_finetune.py --config.init_from=runs/digits "
    "--workdir=runs/digits-finetune --draws=2 --baselines",
    "mae-jax finetune --config=configs/folder_finetune.py --config.init_from=runs/photos "
    "--config.data.folder=LABELLED --config.data.split=all --config.data.eval_split=all "
    "--workdir=runs/photos-classes",
)
BLOCKS = [block for page in PAGES for block in page_commands.blocks(page)]


def run(words):
    """A command as it is typed, made small."""
    if words[0] in _INSTALLS:
        return
    assert words[0].endswith("mae-jax"), f"{words[0]} is nothing that this runs"
    verb = words[1]
    small = {"pretrain": _STEPS, "sweep": _STEPS, "finetune": _SHORT, "probe": [], "bench": _STEPS}
    added = list(small.get(verb, []))
    if any(word.startswith("--config=configs/folder") for word in words) and verb != "finetune":
        added += _TINY
    if verb == "finetune":
        added.append("--config.data.batch_size=8")
    words = [word.replace("--draws=5", "--draws=2") for word in words]
    assert cli.main(["mae-jax", *words[1:], *added]) == 0, " ".join(words)


def targets(words):
    """What a command makes."""
    for word in words:
        name, _, value = word.partition("=")
        if name in ("--workdir", "--out", "--sheet"):
            yield value


@pytest.fixture(scope="session")
def made(tmp_path_factory, photos, tfds_dir):
    """A folder with what a reader has by then."""
    folder = tmp_path_factory.mktemp("reader")
    os.environ["TFDS_DATA_DIR"] = tfds_dir
    few = sorted(path for path in photos.rglob("*.jpg") if path.parent != photos)
    for index, path in enumerate(few[:24]):
        place = folder / "PHOTOS" / ("temple", "flower")[index % 2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for name in ("LABELLED", "NEW"):
        shutil.copytree(folder / "PHOTOS", folder / name)
    rows = [f"{p.relative_to(folder / 'PHOTOS')},{p.parent.name}" for p in
            sorted((folder / "PHOTOS").rglob("*.jpg"))]  # fmt: skip
    (folder / "labels.csv").write_text("\n".join(["name,class", *rows, ""]))
    shutil.copytree(TOP / "configs", folder / "configs")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for command in _MADE:
            run(command.split())
        for name, source in _STAND_INS.items():
            shutil.copytree(source, name)
    finally:
        os.chdir(before)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_block(block, made, tmp_path, monkeypatch):
    if block.not_run is not None:
        pytest.skip(block.not_run)
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    for words in block.commands:
        for target in targets(words):
            shutil.rmtree(target, ignore_errors=True)
    for words in block.commands:
        run(words)
        for target in targets(words):
            assert os.path.exists(target), target
