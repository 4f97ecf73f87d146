"""Pre-train on a folder of your own images, at any depth, labelled or not.

    mae-jax pretrain --config=configs/folder.py --config.data.folder=PHOTOS --workdir=runs/photos

A small model (22 M parameters) that one GPU, or a patient CPU, can train. With many images take
the dimensions of configs/in1k/; with a `train` and a `val` folder set data.split and
data.eval_split to them. `configs/folder.py:small` is for a CPU, and for small images: 32 x 32
pixels and 0.7 M parameters, 300 images a second on two cores.
"""

from mae_jax.config import default_config

VARIANTS = PHOTOS, SMALL = "photos", "small"


def get_config(variant=PHOTOS):
    config = default_config()
    model, data, train, log = config.model, config.data, config.train, config.log
    data.split, data.eval_split = "all[:95%]", "all[95%:]"
    data.batch_size = 64
    config.checkpoint.every_epochs = 10.0
    log.every_steps, log.panel_every_epochs = 20, 20.0
    {PHOTOS: _photos, SMALL: _small}[variant](model, data, train)
    return config


def _photos(model, data, train):
    model.size, model.image_size = "small", (224, 224)
    train.epochs, train.warmup_epochs = 400.0, 20.0
    # Four times the paper's, as the batch is small; a guess to start from, not a measured choice.
    train.base_lr = 6e-4


def _small(model, data, train):
    model.image_size, model.patch_size = (32, 32), (4, 4)
    model.width, model.depth, model.heads = 96, 6, 4
    model.decoder_width, model.decoder_depth, model.decoder_heads = 64, 1, 4
    data.cache, data.eval_crop = True, 1.0  # of so few pixels none is cut away
    train.epochs, train.warmup_epochs, train.base_lr = 120.0, 12.0, 3e-3
