"""Good and bad runs on the digits, as docs/trouble.md shows them.

    python benchmarks/trouble.py [runs/trouble]

Trains each for 10 epochs, a minute on two cores, in the folder given, where what is done stays;
then draws docs/trouble_curves.svg and docs/trouble_panels.png. The model is that of
configs/digits.py, with two of its six blocks.
"""

import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw

from mae_jax.commands import configs
from mae_jax.commands.pretrain import pretrain
from mae_jax.train import metrics

ROOT = Path(__file__).parents[1]
EPOCHS, EVERY = 10.0, 1.0
# What it is called, base_lr, colour (Okabe and Ito 2008).
RUNS = {
    "good": ("good: base_lr 6e-3, as in configs/digits.py", 6e-3, "#0072B2"),
    "low": ("too low: 1.5e-4, the paper's, with 64 images", 1.5e-4, "#E69F00"),
    "high": ("too high: 2", 2.0, "#D55E00"),
}
MEASURES = {"eval_loss": "held-out loss", "eval_knn_accuracy": "kNN accuracy"}


def train(base_lr: float, folder: Path) -> list[dict[str, float]]:
    """Lines of metrics of a run."""
    config = configs.read(ROOT / "configs" / "digits.py")
    config.train.epochs, config.train.warmup_epochs = EPOCHS, EPOCHS / 10
    config.model.depth, config.train.base_lr = 2, base_lr
    config.log.eval_every_epochs, config.log.panel_every_epochs = EVERY, EPOCHS
    config.checkpoint.every_epochs, config.log.tensorboard = EPOCHS, False
    pretrain(config, folder, quiet=True)
    return metrics.read(folder)


def curves(lines: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A plot for each measure, a line for each run."""
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "trouble"  # the same file every time
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, (name, title) in zip(axes, MEASURES.items(), strict=True):
        for run, (label, _, colour) in RUNS.items():
            points = [(line["step"], line[name]) for line in lines[run] if name in line]
            axis.plot(*zip(*points, strict=True), color=colour, label=label, marker=".")
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
    axes[0].axhline(1, color="grey", linestyle="--")
    axes[0].set_ylim(0, 1.3)
    axes[1].axhline(0.1, color="grey", linestyle="--")
    axes[1].set_ylim(0, 1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, metadata={"Date": None})


def panels(folders: dict[str, Path], path: Path, rows: int = 2) -> None:
    """The first rows of each run's last panel, below each other."""
    title, row = 18, 100
    shown = {}
    for run, folder in folders.items():
        panel = Image.open(sorted((folder / "panels").glob("*.png"))[-1])
        shown[run] = panel.crop((0, 0, panel.width, 16 + rows * row))
    width, height = next(iter(shown.values())).size
    sheet = Image.new("RGB", (width, len(shown) * (height + title)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (run, picture) in enumerate(shown.items()):
        top = place * (height + title)
        draw.text((8, top + 4), RUNS[run][0], fill="black")
        sheet.paste(picture, (0, top + title))
    sheet.quantize(64).save(path, optimize=True)


def main() -> None:
    place = Path(sys.argv[1] if sys.argv[1:] else "runs/trouble")
    folders = {run: place / run for run in RUNS}
    lines = {run: train(RUNS[run][1], folder) for run, folder in folders.items()}
    curves(lines, ROOT / "docs" / "trouble_curves.svg")
    panels(folders, ROOT / "docs" / "trouble_panels.png")
    for run, found in lines.items():
        last = {name: line[name] for line in found for name in MEASURES if name in line}
        print(run, last)


if __name__ == "__main__":
    main()
