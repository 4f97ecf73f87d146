r"""Compare frozen encoders on Fashion-MNIST: nearest neighbours, logistic regression, linear probe.

    mae-jax probe runs/fashion --config=configs/fashion/probe.py --out=runs/fashion-probe \
        --methods=knn,logistic,linear

The recipe is not tuned, and was not run whole yet.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    # Of the images; every encoder brings its own dimensions.
    model.image_size, model.patch_size, model.channels = (28, 28), (4, 4), 1
    model.pool = "token"

    data.name, data.split, data.eval_split = "fashion_mnist", "train", "test"
    data.batch_size, data.cache = 1024, True
    data.crop_scale, data.eval_crop = (0.7, 1.0), 1.0
    data.mean, data.std = (0.2860,), (0.3530,)

    train.objective, train.optimizer = "probe", "lars"
    train.epochs, train.warmup_epochs = 10.0, 1.0
    train.base_lr, train.weight_decay = 1.0, 0.0
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1000.0
    config.log.tensorboard = False
    return config
