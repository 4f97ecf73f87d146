r"""Compare frozen encoders on the digits: linear probe, logistic regression, nearest neighbours.

    mae-jax probe runs/digits --config=configs/digits_probe.py --out=runs/digits-probe \
        --methods=logistic,knn,linear
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    # Of the images; every encoder brings its own dimensions.
    model.image_size, model.patch_size, model.channels = (8, 8), (2, 2), 1
    model.pool = "token"

    data.name, data.split, data.eval_split = "handwritten_digits", "train", "test"
    data.batch_size, data.cache = 256, True
    data.flip, data.crop_scale, data.eval_crop = False, (0.8, 1.0), 1.0
    data.mean, data.std = (0.305,), (0.376,)

    # The paper's recipe, with its absolute learning rate of 6.4: a batch is small here.
    train.objective, train.optimizer = "probe", "lars"
    train.epochs, train.warmup_epochs = 90.0, 10.0
    train.base_lr, train.weight_decay = 6.4, 0.0
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1000.0
    config.log.tensorboard = False
    return config
