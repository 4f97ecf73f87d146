"""Pre-train ViT-L/16 (330 M parameters with its decoder) on ImageNet-1K.

    mae-jax pretrain --config=configs/in1k/l16.py --workdir=runs/in1k-l16

Expect, after 1600 epochs and fine-tuning: 85.9 % fine-tuned, 75.8 % linear probe
(He et al. 2022, tables 3 and 12, as published; not yet a run of ours). The recipe is table
8's.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    config.model.size, config.model.image_size = "large", (224, 224)

    config.data.name = "imagenet2012"
    config.data.split, config.data.eval_split = "train", "validation"
    config.data.batch_size, config.data.workers = 4096, 8

    config.train.epochs, config.train.warmup_epochs, config.train.base_lr = 1600.0, 40.0, 1.5e-4
    return config
