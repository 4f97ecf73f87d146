r"""Go on pre-training from weights that exist, on a folder of your own images.

    mae-jax pretrain --config=configs/adapt.py --config.init_from=hf:facebook/vit-mae-base \
        --config.data.folder=PHOTOS --workdir=runs/adapted

`--config=configs/adapt.py:encoder` where the weights have no decoder: a new one learns for two
epochs before the encoder moves. Architecture, target, mean and deviation are those of the weights;
whatever the config says of them is checked. docs/adapt.md says when this is worth it, and measures
small models: there the rate of training from scratch was not too high.
"""

from mae_jax.config import default_config

VARIANTS = WHOLE, ENCODER = "whole", "encoder"


def get_config(variant=WHOLE):
    config = default_config()
    data, train, log = config.data, config.train, config.log
    data.split, data.eval_split, data.batch_size = "all[:95%]", "all[95%:]", 64
    # The rate of training from scratch (configs/folder.py), for a quarter of its epochs.
    train.epochs, train.warmup_epochs, train.base_lr = 100.0, 5.0, 6e-4
    if variant == ENCODER:
        config.init_part, train.settle_epochs = "encoder", 2.0
    config.checkpoint.every_epochs = 10.0
    log.every_steps, log.panel_every_epochs = 20, 20.0
    return config
