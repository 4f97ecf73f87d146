"""Runs what README and the pages of docs/ tell a reader to type: `make docs-test`.

    python tests/docs/run_pages.py [PAGE …]

Every block runs by itself, in a folder that has what a reader has by then: photographs, runs.
Models are tiny and train for three steps, so that this shows that commands work and not how well.
What installs is left out; what cannot run here says so on its page.
"""

import contextlib
import os
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from page_commands import PAGES, TOP, Block, blocks

from mae_jax import cli

_STEPS = [
    "--config.model.depth=1",
    "--config.train.epochs=None",
    "--config.train.steps=3",
    "--config.train.warmup_epochs=0",
    "--config.data.workers=0",
    "--config.log.panel_every_epochs=1e6",
    "--config.log.tensorboard=False",
]
_TINY = [
    "--config.model.size=tiny",
    "--config.model.decoder_depth=1",
    "--config.model.image_size=32",
    "--config.model.patch_size=8",
    "--config.data.batch_size=8",
]
_SHORT = ["--config.train.steps=3", "--config.train.warmup_steps=1", "--config.data.batch_size=8"]
_EPOCH = ["--config.train.epochs=1", "--config.train.warmup_epochs=0"]
_FEWER = {
    "--draws=5": "--draws=2",
    "--seeds=3": "--seeds=2",
    "--search=40": "--search=2",
    "--blocks=0,0.5,1,2,4,6": "--blocks=0,0.5,1",
    "--layers=2,4,6": "--layers=1",
    "--layers=2,6": "--layers=1",
    "model.mask_ratio=.1,.3,.5,.75,.9": "model.mask_ratio=.5,.75",
}
_SMALL = {
    "pretrain": _STEPS,
    "sweep": _STEPS,
    "bench": _STEPS,
    "finetune": _SHORT,
    "probe": _EPOCH,
}
_INSTALLS = ("pip", "python3", ".venv/bin/pip", ".")
# A reader's other encoders, in place of which stand those that are made here.
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


def run(words) -> None:
    """A command as it is typed, made small.

    Raises:
      RuntimeError: its exit code is not 0.
    """
    if words[0] in _INSTALLS:
        return
    if not words[0].endswith("mae-jax"):
        raise RuntimeError(f"{words[0]} is nothing that this runs")
    added = list(_SMALL.get(words[1], []))
    if words[1] in ("pretrain", "bench") and "--config=configs/folder.py" in words:
        added += _TINY
    code = cli.main(["mae-jax", *(_FEWER.get(word, word) for word in words[1:]), *added])
    if code:
        raise RuntimeError(f"exit code {code} of {' '.join(words)}")


def photographs(folder: Path, count: int = 40) -> None:
    """Crops of scikit-learn's two photographs, in a folder for each."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, picture in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = rng.integers(0, 300, 2)
            crop = Image.fromarray(picture[top : top + 80, left : left + 100])
            crop.save(folder / name / f"{number}.jpg")


def prepare(folder: Path) -> None:
    """Puts there what a reader has by the time that a page is read."""
    photographs(folder / "PHOTOS")
    for name in ("LABELLED", "NEW"):
        shutil.copytree(folder / "PHOTOS", folder / name)
    names = sorted((folder / "PHOTOS").rglob("*.jpg"))
    rows = [f"{path.relative_to(folder / 'PHOTOS')},{path.parent.name}" for path in names]
    (folder / "labels.csv").write_text("\n".join(["name,class", *rows, ""]))
    rows = [f"PHOTOS/{row}" for row in rows]
    (folder / "TABLE.csv").write_text("\n".join(["path,label", *rows, ""]))
    (folder / "SHARDS").mkdir()
    with tarfile.open(folder / "SHARDS" / "000.tar", "w") as tar:
        tar.add(folder / "PHOTOS", arcname="")
    (folder / "configs").symlink_to(TOP / "configs")
    with contextlib.chdir(folder):
        for command in _MADE:
            run(command.split())
        for name, source in _STAND_INS.items():
            shutil.copytree(source, name)


def targets(words):
    """What a command makes."""
    found = (word.partition("=") for word in words)
    return [value for name, _, value in found if name in ("--workdir", "--out", "--sheet")]


def run_block(block: Block, made: Path) -> None:
    """Runs it in a copy of what was made, without what its commands are to make."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copytree(made, "here", symlinks=True)
        os.chdir("here")
        for target in (target for words in block.commands for target in targets(words)):
            shutil.rmtree(target, ignore_errors=True)
        for words in block.commands:
            run(words)
            for target in targets(words):
                if words[0] not in _INSTALLS and not os.path.exists(target):
                    raise RuntimeError(f"{target} was not made by {' '.join(words)}")


def main(names: list[str]) -> int:
    failed = []
    with tempfile.TemporaryDirectory() as place:
        # Most of the time goes into compiling: as little of it as can be.
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{place}/programs")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        made = Path(place, "made")
        prepare(made)
        for page in PAGES:
            for block in blocks(page) if not names or page.name in names else ():
                began = time.monotonic()
                result = f"not run: {block.not_run}"
                if block.not_run is None:
                    try:
                        run_block(block, made)
                        result = "ok"
                    except Exception as error:
                        result = f"FAILED: {error}"
                        failed.append(block.place)
                print(f"== {block.place}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all that can run here works")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
