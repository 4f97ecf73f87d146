r"""Does `mae-jax diagnose` name the cause? Twelve runs made wrong on purpose, and good ones.

    python benchmarks/diagnose.py --set=digits     # on which the thresholds were chosen
    python benchmarks/diagnose.py --set=fashion    # on which they are tried

Each run is trained and diagnosed, and the line says what it should have been and what it was. A
work folder that is there is gone on with: the same command again diagnoses what was trained.
"""

import argparse
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import mae_jax
from mae_jax.commands import configs
from mae_jax.config.key import Key
from mae_jax.config.schema import SCHEMA
from mae_jax.data import sources
from mae_jax.models import sizes, transformer


def allow_no_blocks():
    """A decoder of no depth is refused; here it is to be made."""
    SCHEMA["model"]["decoder_depth"] = Key(None, "decoder blocks", kind=int)
    sizes._check = lambda dimensions: None
    apply_blocks = transformer.apply_blocks

    def or_none(stack, x, *, queries=None, **how):
        return apply_blocks(stack, x, queries=queries, **how) if len(stack) else x[:, :queries]

    transformer.apply_blocks = or_none


GOOD = "learns"


def digits(root):
    base = configs.read("configs/digits.py")
    base.train.epochs, base.train.warmup_epochs, base.train.base_lr = 40.0, 4.0, 6e-3
    return base, {
        "good": ({}, GOOD),
        "good, wide": ({"model.width": 128, "model.depth": 3, "train.base_lr": 3e-3}, GOOD),
        "good, raw pixels": ({"model.norm_pix": False, "seed": 3, "train.epochs": 150.0}, GOOD),
        "good, larger patches": ({"model.patch_size": (4, 4), "model.mask_ratio": 0.5}, GOOD),
        "good, half of the rate": ({"train.base_lr": 3e-3, "seed": 1}, GOOD),
    }


def fashion(root):
    base = configs.read("configs/fashion/ablation.py")
    base.train.epochs = 2.0
    photos = _photographs(root / "data" / "photographs")
    return base, {
        "good": ({}, GOOD),
        "good, twice as long": ({"train.epochs": 4.0, "seed": 2}, GOOD),
        "good, deep and narrow": (
            {"model.width": 48, "model.depth": 6, "model.heads": 4, "model.mask_ratio": 0.6}, GOOD
        ),
        "good, raw pixels": ({"model.norm_pix": False}, GOOD),
        "good, photographs": (
            {"data.folder": str(photos), "data.split": "train", "data.eval_split": "test",
             "model.channels": 3, "data.mean": (), "data.std": (), "model.image_size": (32, 32),
             "data.crop_scale": (0.2, 1.0), "train.epochs": 40.0},
            GOOD,
        ),
    }  # fmt: skip


def wrong(base, root):
    """Changes, and what should be found, by name."""
    lr, mean = base.train.base_lr, base.data.mean
    data = root / "data"
    as_files = _as_files(base, data / "files")
    steps = {"train.epochs": None, "train.steps": 700}
    return {
        "rate times 100": ({"train.base_lr": 100 * lr}, "rate too high"),
        "rate over 1000": ({"train.base_lr": lr / 1000}, "rate too low"),
        "50 images": (
            {"data.split": f"{base.data.split}[:50]", "train.epochs": None, "train.steps": 2000,
             "train.warmup_epochs": 20.0, "data.crop": "none", "data.batch_size": 64}, "overfits",
        ),
        "blank images": (_folder(as_files, data / "blank", _blank) | steps, "blank images"),
        "noise": (_folder(as_files, data / "noise", _noise) | steps, "noise"),
        "wrong mean": (
            {"data.mean": (mean[0] + 4,), "data.std": (base.data.std[0] / 10,)},
            "mean and deviation",
        ),
        "decoder of no depth": ({"model.decoder_depth": 0}, "no context"),
        "one step": (
            {"train.epochs": None, "train.steps": 1, "train.warmup_epochs": 0.0}, "only begun"
        ),
        "one class": (_one_class(as_files, data / "one_class") | steps, "little content"),
        "duplicates": (_repeated(as_files, data / "repeated") | steps, "repeated images"),
        "half broken": (
            _folder(as_files, data / "broken", _break) | steps | {"data.broken_share": 1.0},
            "broken images",
        ),
        "masks at 5%": ({"model.mask_ratio": 0.05}, "little is hidden"),
    }  # fmt: skip


def _as_files(base, root):
    """A thousand of the images as files in class folders, and 300 that are held out."""
    if not (root / "done").exists():
        shutil.rmtree(root, ignore_errors=True)
        for part, split, count in (
            ("train", base.data.split, 1000), ("test", base.data.eval_split, 300)
        ):  # fmt: skip
            source = sources.open_source(base.data, split)
            for index in range(min(count, len(source))):
                record = source[index]
                data = record.data
                picture = (
                    Image.open(io.BytesIO(data))
                    if isinstance(data, bytes)
                    else Image.fromarray(np.squeeze(data))
                )
                folder = root / part / f"class{record.label}"
                folder.mkdir(parents=True, exist_ok=True)
                picture.save(folder / f"{index:05d}.png")
        (root / "done").touch()
    return root


def _folder(files_at, root, change):
    """A copy of the files with every one of the training ones changed."""
    if not (root / "done").exists():
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(files_at, root)
        (root / "done").unlink()
        for number, path in enumerate(sorted(root.glob("*/*/*.png"))):
            change(number, path)
        (root / "done").touch()
    return _of(root)


def _of(root):
    return {"data.folder": str(root), "data.split": "train", "data.eval_split": "test",
            "train.warmup_epochs": 2.0}  # fmt: skip


def _blank(number, path):
    with Image.open(path) as picture:
        shape = np.asarray(picture).shape
    Image.fromarray(np.full(shape, number % 256, np.uint8)).save(path)


def _noise(number, path):
    with Image.open(path) as picture:
        shape = np.asarray(picture).shape
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)


def _break(number, path):
    if number % 2:
        path.write_bytes(path.read_bytes()[:40])


def _one_class(files_at, root):
    if not root.exists():
        for part in ("train", "test"):
            shutil.copytree(files_at / part / "class1", root / part / "class1")
    return _of(root)


def _repeated(files_at, root):
    if not root.exists():
        shutil.copytree(files_at / "test", root / "test")
        for number, path in enumerate(sorted(files_at.glob("train/*/*.png"))[::50]):
            folder = root / "train" / path.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            for copy in range(50):
                os.link(path, folder / f"{number}_{copy}.png")
    return _of(root)


def _photographs(root):
    """Parts of scikit-learn's two photographs, which do not overlap between the splits."""
    if not root.exists():
        from sklearn.datasets import load_sample_images

        rng = np.random.default_rng(0)
        for name, picture in zip("ab", load_sample_images().images, strict=True):
            whole = Image.fromarray(picture)
            for part, left, right, count in (("train", 0, 480, 400), ("test", 480, 640, 100)):
                folder = root / part / name
                folder.mkdir(parents=True)
                for number in range(count):
                    x, y = rng.integers(left, right - 64), rng.integers(0, whole.height - 64)
                    whole.crop((x, y, x + 64, y + 64)).save(folder / f"{number}.png")
    return root


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=("digits", "fashion"), default="digits")
    parser.add_argument("--out", default="runs/diagnose")
    parser.add_argument("--only", default="", help="names of runs, with commas between them")
    options = parser.parse_args()
    root = Path(options.out).absolute() / options.set
    root.mkdir(parents=True, exist_ok=True)
    allow_no_blocks()
    base, good = {"digits": digits, "fashion": fashion}[options.set](root)
    cases, right = good | wrong(base, root), 0
    if options.only:
        cases = {name: cases[name] for name in options.only.split(",")}
    for name, (changes, wanted) in cases.items():
        folder = root / name.replace(" ", "_").replace(",", "")
        overrides = {
            "log.tensorboard": False,
            "log.knn": False,
            "log.eval_every_epochs": 1e6,
            "log.panel_every_epochs": 1e6,
            "checkpoint.every_epochs": 1e6,
        } | changes
        if not (folder / "diagnosis.json").exists():
            mae_jax.pretrain(base, folder, overrides=overrides, quiet=True)
        found = mae_jax.diagnose(folder, out=folder)
        told = found.verdict[0]["name"]
        right += told == wanted
        losses = found["losses"]
        print(json.dumps({
            "run": name, "should be": wanted, "is": told, "right": told == wanted,
            "loss": losses["held_out"], "train": losses["train"], "free": losses["free"],
            "visible": losses["visible_matters"], "rank": found["features"]["rank"],
            "spread": found["features"]["spread"], "moved": found["features"]["moved"],
            "like start": found["features"]["like_start"], "history": found["run"],
        }), flush=True)  # fmt: skip
    print(f"{right} of {len(cases)} are right")


if __name__ == "__main__":
    main()
