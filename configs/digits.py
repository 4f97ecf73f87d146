"""Pre-train on scikit-learn's handwritten digits, in minutes on two CPU cores.

mae-jax pretrain --config=configs/digits.py --workdir=runs/digits
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.image_size, model.patch_size, model.channels = (8, 8), (2, 2), 1
    model.width, model.depth, model.heads = 64, 4, 4
    model.decoder_width, model.decoder_depth, model.decoder_heads = 64, 2, 4

    data.name, data.split, data.eval_split = "handwritten_digits", "train", "test"
    data.batch_size, data.cache = 128, True
    # A mirrored digit is no digit, and the 8 x 8 pixels are already cut to the figure.
    data.flip, data.crop_scale, data.eval_crop = False, (0.6, 1.0), 1.0
    data.mean, data.std = (0.305,), (0.376,)

    train.epochs, train.warmup_epochs, train.base_lr = 300.0, 20.0, 3e-3
    config.checkpoint.every_epochs = 50.0
    config.log.every_steps, config.log.eval_every_epochs, config.log.panel_every_epochs = (
        200,
        50.0,
        100.0,
    )
    return config
