r"""Fine-tune on ten labels of each digit, from what configs/digits.py pre-trained.

    mae-jax finetune --config=configs/digits_finetune.py --config.init_from=runs/digits \
        --workdir=runs/digits-finetune --draws=5 --baselines

Expect 92.8 ± 0.6 % on held-out digits, and 61.9 ± 9.3 % from scratch (our run, five draws). With
four times the updates, and for other label counts: docs/evaluate.md.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    # With init_from the dimensions come from there; these are for training from scratch.
    model.image_size, model.patch_size, model.channels = (8, 8), (2, 2), 1
    model.width, model.depth, model.heads = 64, 6, 4

    data.name, data.split, data.eval_split = "handwritten_digits", "train", "test"
    data.batch_size, data.cache, data.labels_per_class = 100, True, 10
    data.flip, data.crop_scale, data.eval_crop = False, (0.8, 1.0), 1.0
    data.mean, data.std = (0.305,), (0.376,)

    # As many updates for any number of labels; ten of each are one batch.
    train.objective, train.steps, train.warmup_steps = "classify", 100, 10
    train.base_lr, train.beta2, train.layer_decay = 1.5e-2, 0.999, 0.75
    train.label_smoothing, train.mixup = 0.1, 0.8
    # Many short runs: one checkpoint and one evaluation each, at the end.
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1e6
    config.log.every_steps, config.log.tensorboard = 100, False
    return config
