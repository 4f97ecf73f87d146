r"""Fine-tune on Fashion-MNIST with few labels, from what configs/fashion/pretrain.py pre-trained.

    mae-jax finetune --config=configs/fashion/finetune.py --config.init_from=runs/fashion \
        --workdir=runs/fashion-finetune --draws=5 --labels=10,100 --baselines

The recipe is much like that of the digits. It is not tuned, and was not run whole yet.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    # With init_from the dimensions come from there; these are for training from scratch.
    model.image_size, model.patch_size, model.channels = (28, 28), (4, 4), 1
    model.width, model.depth, model.heads = 96, 6, 4

    data.name, data.split, data.eval_split = "fashion_mnist", "train", "test"
    data.batch_size, data.cache, data.labels_per_class = 100, True, 10
    data.crop_scale, data.eval_crop = (0.7, 1.0), 1.0
    data.mean, data.std = (0.2860,), (0.3530,)

    # As many updates for any number of labels.
    train.objective, train.steps, train.warmup_steps = "classify", 300, 30
    train.base_lr, train.beta2, train.layer_decay = 4e-3, 0.999, 0.75
    train.label_smoothing, train.mixup = 0.1, 0.8
    # Many short runs: one checkpoint and one evaluation each, at the end.
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1e6
    config.log.every_steps, config.log.tensorboard = 100, False
    return config
