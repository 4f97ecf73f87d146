r"""What going on from weights is worth: from Fashion-MNIST to the digits, and back.

    python benchmarks/adapt.py [--out=runs/adapt] [--draws=5] [--only=digits]

One small model is pre-trained on either set. On the other it is measured as it is; after so many
updates more, in several ways; and beside models from scratch with equal and with three times the
updates. Each is one sweep over seeds: held-out loss, kNN, a linear probe, and fine-tuning on ten
labels of each class. What was done is kept; the same command goes on. Variants of going on have
two draws.
"""

import argparse
import json
from pathlib import Path

import mae_jax
from mae_jax.config import default_config

SETS = {
    "fashion": ("fashion_mnist", "test[:50%]", (0.2860,), (0.3530,), (0.5, 1.0)),
    "digits": ("handwritten_digits", "test", (0.305,), (0.376,), (0.65, 1.0)),
}
UPDATES = {"fashion": 240, "digits": 240}  # on the set adapted to
SOURCE_UPDATES = {"fashion": 1880, "digits": 1880}
RATE = 4e-3


def config_for(name, *, open_model=False):
    config = default_config()
    model, data, log = config.model, config.data, config.log
    data.name, data.eval_split, mean, std, data.crop_scale = SETS[name]
    data.cache, data.flip, data.eval_crop = True, name == "fashion", 1.0
    if not open_model:
        # Both in one form: the digits are enlarged from 8 x 8.
        model.image_size, model.patch_size, model.channels = (28, 28), (4, 4), 1
        model.width, model.depth, model.heads = 64, 4, 4
        model.decoder_width, model.decoder_depth, model.decoder_heads = 32, 1, 4
        data.mean, data.std = mean, std
    config.checkpoint.every_epochs = log.eval_every_epochs = log.panel_every_epochs = 1e6
    log.every_steps, log.tensorboard, log.knn_images = 100, False, 5000
    return config


def pretraining(name, updates, source=None, **changes):
    config = config_for(name, open_model=source is not None)
    train = config.train
    config.data.batch_size, train.steps, train.warmup_steps = 128, updates, min(47, updates // 10)
    train.base_lr, config.init_from = RATE, source and str(source)
    config.update_from_flattened_dict(changes)
    return config


def following(name):
    few, probe = config_for(name, open_model=True), config_for(name, open_model=True)
    for config in (few, probe):
        config.data.name = None  # that of the pre-training
    data, train = few.data, few.train
    data.batch_size, data.labels_per_class = 64, 10
    train.objective, train.steps, train.warmup_steps = "classify", 200, 20
    train.base_lr, train.beta2, train.layer_decay = 6e-3, 0.999, 0.75
    train.label_smoothing, train.mixup = 0.1, 0.8
    data, train = probe.data, probe.train
    probe.model.pool, data.batch_size, data.labels_per_class = "token", 200, 100
    train.objective, train.optimizer, train.weight_decay = "probe", "lars", 0.0
    train.epochs, train.warmup_epochs, train.base_lr = 20.0, 2.0, 60.0
    return [few, probe]


def ways(name, source, encoder):
    """What is compared, each a config of its pre-training."""
    k = UPDATES[name]
    return {
        "the source as it is": pretraining(name, 1, source, **{"train.base_lr": 0.0}),
        "from scratch": pretraining(name, k),
        "from scratch, three times as long": pretraining(name, 3 * k),
        "gone on": pretraining(name, k, source),
        "gone on, a third of the rate": pretraining(name, k, source, **{"train.base_lr": RATE / 3}),
        "gone on, layer decay 0.75": pretraining(name, k, source, **{"train.layer_decay": 0.75}),
        "encoder alone": pretraining(name, k, encoder, **NEW_DECODER),
        "encoder alone, settled first": pretraining(
            name, k, encoder, **NEW_DECODER, **{"train.settle_steps": k // 10}
        ),
    }


# What is chosen between here and not promised: fewer draws tell enough.
VARIANTS = {
    "gone on, a third of the rate", "gone on, layer decay 0.75", "encoder alone",
    "encoder alone, settled first",
}  # fmt: skip
NEW_DECODER = {
    "init_part": "encoder", "model.decoder_width": 32, "model.decoder_depth": 1,
    "model.decoder_heads": 4,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/adapt")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", default=",".join(SETS), help="sets to adapt to")
    options = parser.parse_args()
    root = Path(options.out).absolute()
    for name in options.only.split(","):
        (other,) = SETS.keys() - {name}
        source = root / f"source_{other}"
        mae_jax.pretrain(pretraining(other, SOURCE_UPDATES[other]), source, quiet=True)
        print(f"\n{other} to {name}, {options.draws} draws\n")
        print("| | held-out loss | kNN | linear probe | ten labels |\n|---|---|---|---|---|")
        for way, config in ways(name, source, source).items():
            folder = root / name / way.replace(" ", "_").replace(",", "")
            draws = min(2, options.draws) if way in VARIANTS else options.draws
            found = mae_jax.sweep(config, folder, seeds=draws, then=following(name))
            (row,) = found["rows"]
            cells = [f"{row['held-out loss']['mean']:.3f}"]
            for column in ("kNN", "probe", "finetune"):
                spread = row[column].get("deviation")
                cells.append(f"{row[column]['mean']:.1%}" + (f" ± {spread:.1%}" if spread else ""))
            print(f"| {way} | " + " | ".join(cells) + " |", flush=True)
            (folder / "row.json").write_text(json.dumps(row, default=str))


if __name__ == "__main__":
    main()
