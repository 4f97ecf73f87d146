"""Pre-train ViT-B/16 (112 M parameters with its decoder) on ImageNet-1K.

    mae-jax pretrain --config=configs/in1k/b16.py --workdir=runs/in1k-b16

Expect, after 1600 epochs and fine-tuning: 83.6 % fine-tuned, 68.0 % linear probe
(He et al. 2022, tables 3 and 12, as published; not yet a run of ours). The recipe is table
8's. In others' runs of it the loss ends near 0.42.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    config.model.size, config.model.image_size = "base", (224, 224)

    config.data.name = "imagenet2012"
    config.data.split, config.data.eval_split = "train", "validation"
    config.data.batch_size, config.data.workers = 4096, 8

    config.train.epochs, config.train.warmup_epochs, config.train.base_lr = 1600.0, 40.0, 1.5e-4
    return config
