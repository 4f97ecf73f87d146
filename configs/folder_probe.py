r"""Measure frozen encoders on a folder of your own with a sub-folder for each class.

    mae-jax probe runs/photos --config=configs/folder_probe.py --config.data.folder=LABELLED \
        --out=runs/photos-probe

LABELLED and splits are as for configs/folder_finetune.py; more SOURCEs may follow, to be compared.
Expect a table of accuracies on the held-out images, by logistic regression and nearest neighbours
on features that are computed once: minutes for thousands of images. With
--methods=logistic,knn,linear the paper's linear probe is trained too, which needs thousands of
images. A probe says what the features hold; fine-tuning mostly reaches more.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    # Every encoder brings its own dimensions and size of images; model.image_size sets one for all.
    model.pool = "token"

    data.split, data.eval_split = "train", "val"
    data.batch_size = 256

    # The paper's recipe, with its absolute learning rate of 6.4: a batch is small here.
    train.objective, train.optimizer = "probe", "lars"
    train.epochs, train.warmup_epochs = 90.0, 10.0
    train.base_lr, train.weight_decay = 6.4, 0.0
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1000.0
    config.log.tensorboard = False
    return config
