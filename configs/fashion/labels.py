r"""What pre-training is worth on Fashion-MNIST, by the number of labels of each class.

    mae-jax finetune --config=configs/fashion/labels.py:10 --config.init_from=runs/fashion \
        --scratch=configs/fashion/labels.py:10_scratch --draws=5 --baselines \
        --workdir=runs/labels/10

and `:100`, `:1000` and `:all`, each with `_scratch` for the same network without pre-training.
`make ablation-labels` does all of it, on the encoder that `make ablation-all` pre-trained for eight
epochs; docs/ablations.md has what came out. Learning rates were chosen with 10 labels, mixup with
10 and 100, from nine tenths of the training images, measured on the last tenth.
"""

from mae_jax.config import default_config

STEPS = {"10": 300, "100": 600, "1000": 1000, "all": 2000}


def get_config(variant="10"):
    labels, _, scratch = variant.partition("_")
    config = default_config()
    model, data, train, log = config.model, config.data, config.train, config.log
    model.image_size, model.patch_size, model.channels = (28, 28), (4, 4), 1
    model.width, model.depth, model.heads = 64, 4, 4
    data.name, data.split, data.eval_split = "fashion_mnist", "train", "test"
    data.batch_size, data.cache, data.crop_scale, data.eval_crop = 64, True, (0.7, 1.0), 1.0
    data.mean, data.std = (0.2860,), (0.3530,)
    data.labels_per_class = None if labels == "all" else int(labels)

    train.objective, train.beta2, train.label_smoothing = "classify", 0.999, 0.1
    train.steps, train.warmup_steps = STEPS[labels], STEPS[labels] // 10
    if scratch:
        train.base_lr, train.layer_decay, train.mixup = 1.2e-2, 1.0, 0.0
    else:
        train.base_lr, train.layer_decay = 6e-3, 0.75
        train.mixup = 0.8 if labels == "10" else 0.0
    config.checkpoint.every_epochs = log.eval_every_epochs = 1e6
    log.every_steps, log.tensorboard, log.knn = 100, False, False
    return config
