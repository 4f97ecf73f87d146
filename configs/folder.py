"""Pre-train on a folder of your own images, at any depth, labelled or not.

    mae-jax pretrain --config=configs/folder.py --config.data.folder=PHOTOS --workdir=runs/photos

A small model (22 M parameters) that one GPU, or a patient CPU, can train. With many images take
the dimensions of configs/in1k/; with a `train` and a `val` folder set data.split and
data.eval_split to them.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.size, model.image_size = "small", (224, 224)

    data.split, data.eval_split = "all[:95%]", "all[95%:]"
    data.batch_size = 64

    train.epochs, train.warmup_epochs = 400.0, 20.0
    # Four times the paper's, as the batch is small; a guess to start from, not a measured choice.
    train.base_lr = 6e-4
    config.checkpoint.every_epochs = 10.0
    config.log.every_steps, config.log.panel_every_epochs = 20, 20.0
    return config
