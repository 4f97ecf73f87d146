r"""What a teacher is worth, on Fashion-MNIST: a student a third of its size, features as target.

    python benchmarks/teacher.py [--out=runs/teacher] [--draws=5] [--only=distill,features]

The teacher is a masked autoencoder. With as many updates each: a smaller encoder taught by it, the
same one as a masked autoencoder, and from scratch; and one of the teacher's size that predicts its
tokens, beside one that predicts normalised pixels. Measured by kNN, a linear probe, and fine-tuning
on ten and on a hundred labels of each class. What was done is kept; the same command goes on.
"""

import argparse
import json
from pathlib import Path

import mae_jax
from mae_jax.commands import configs

SMALL = {"model.width": 36, "model.heads": 4, "model.depth": 4}  # a third of 64 x 4's parameters
EPOCHS = 2.0


LABELS = ("10", "100")
THEN = ["configs/fashion/ablation.py:probe", *(f"configs/fashion/labels.py:{n}" for n in LABELS)]


def pretraining(teacher=None, **changes):
    config = configs.read("configs/fashion/ablation.py")
    config.train.epochs, config.train.teacher = EPOCHS, teacher and str(teacher)
    config.update_from_flattened_dict(changes)
    return config


def rows(teacher):
    """Of each use of a teacher, what is compared: how it is pre-trained."""
    return {
        "distill": {
            "the teacher": pretraining(**{"train.epochs": 2 * EPOCHS}),
            "small, taught": pretraining(teacher, **SMALL, **{"train.objective": "distill"}),
            "small, masked autoencoder": pretraining(**SMALL),
        },
        "features": {
            "features of the teacher": pretraining(teacher, **{"model.target": "features"}),
            "normalised pixels": pretraining(),
        },
    }


SIZES = {"distill": ("small", SMALL), "features": ("as the teacher", {})}


def shown(value):
    spread = value.get("deviation")
    return f"{value['mean']:.1%}" + (f" ± {spread:.1%}" if spread else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/teacher")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", default=",".join(SIZES), help="uses of a teacher")
    options = parser.parse_args()
    root = Path(options.out).absolute()
    teacher = root / "source"
    made = mae_jax.pretrain(pretraining(**{"train.epochs": 2 * EPOCHS}), teacher, quiet=True)
    print(f"teacher: {made['measures']}\n")
    for use in options.only.split(","):
        columns = None
        for name, config in rows(teacher)[use].items():
            folder = root / name.replace(", ", "_").replace(" ", "_")
            draws = 1 if name == "the teacher" else options.draws  # what it is, beside its students
            found = mae_jax.sweep(config, folder, seeds=draws, then=THEN)
            (row,) = found["rows"]
            (folder / "row.json").write_text(json.dumps(row, default=str))
            if columns is None:
                columns = [c for c in row if isinstance(row[c], dict) and c != "held-out loss"]
                print(f"| | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|")
            print(f"| {name} | " + " | ".join(shown(row[c]) for c in columns) + " |", flush=True)
        size, changes = SIZES[use]
        for labels in LABELS:
            folder = root / f"scratch_{size.replace(' ', '_')}_{labels}"
            config = configs.read(f"configs/fashion/labels.py:{labels}_scratch", None, changes)
            found = mae_jax.finetune(config, folder, draws=options.draws)
            print(f"from scratch, {size}, {labels} labels: {json.dumps(found, default=str)[:300]}")


if __name__ == "__main__":
    main()
