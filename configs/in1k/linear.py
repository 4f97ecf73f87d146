r"""Linear probe of a pre-trained encoder on ImageNet-1K: ViT-B/16, L/16 and H/14.

    mae-jax probe --config=configs/in1k/linear.py:b16 --config.init_from=SOURCE \
        --workdir=runs/in1k-b16-linear

and `:l16`, `:h14` for the others. Expect 68.0, 75.8 and 76.6 % top-1 on the validation set, from
encoders pre-trained for 1600 epochs (He et al. 2022, table 12, as published; not yet runs of ours).
The recipe is that of table 10; that the class token is read, through a BatchNorm, is of appendix
A.1, and the flips are the published code's. On few devices --config.train.accumulate works through
the batch in parts, with the statistics of the whole.

To compare encoders on features that are computed once, without augmentation:

    mae-jax probe SOURCE SOURCE --config=configs/in1k/linear.py --out=runs/probes --methods=knn
"""

from mae_jax.config import default_config

SIZES = {"b16": "base", "l16": "large", "h14": "huge"}


def get_config(variant: str = "b16"):
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.size, model.image_size, model.pool = SIZES[variant], (224, 224), "token"

    data.name, data.split, data.eval_split = "imagenet2012", "train", "validation"
    data.batch_size, data.workers, data.crop_scale = 16384, 8, (0.08, 1.0)

    train.objective, train.optimizer = "probe", "lars"
    train.epochs, train.warmup_epochs = 90.0, 10.0
    train.base_lr, train.weight_decay = 0.1, 0.0
    config.log.eval_every_epochs = 10.0
    return config
