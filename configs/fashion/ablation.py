r"""The paper's ablations on Fashion-MNIST, small: many runs on two CPU cores.

    mae-jax sweep --config=configs/fashion/ablation.py --grid model.mask_ratio=.1,.5,.75,.9 \
        --seeds=3 --then=configs/fashion/ablation.py:finetune,configs/fashion/ablation.py:probe \
        --workdir=runs/ratios

`make ablation` does this for six ratios, `make ablation-all` for the other tables too; what was
interrupted goes on by the same command.

A setting is pre-trained for two epochs, and its encoder measured in three ways: fine-tuned on
20 labels of each class, by a linear probe on 200, and by nearest neighbours. All measures are on
the first half of the test images. docs/ablations.md has what came out.
"""

from mae_jax.config import default_config

# What is done: the argument behind the file's name.
VARIANTS = PRETRAIN, FINETUNE, PROBE = "pretrain", "finetune", "probe"


def get_config(what=PRETRAIN):
    config = default_config()
    model, data, train, log = config.model, config.data, config.train, config.log
    model.image_size, model.patch_size, model.channels = (28, 28), (4, 4), 1
    model.width, model.depth, model.heads = 64, 4, 4
    data.name, data.split, data.eval_split = "fashion_mnist", "train", "test[:50%]"
    data.cache, data.mean, data.std = True, (0.2860,), (0.3530,)
    data.eval_crop = 1.0
    # One checkpoint and one evaluation each, at the end.
    config.checkpoint.every_epochs = log.eval_every_epochs = log.panel_every_epochs = 1e6
    log.every_steps, log.tensorboard, log.knn_images = 100, False, 5000
    {PRETRAIN: _pretrain, FINETUNE: _finetune, PROBE: _probe}[what](model, data, train)
    return config


def _pretrain(model, data, train):
    model.decoder_width, model.decoder_depth, model.decoder_heads = 32, 1, 4
    data.batch_size, data.crop_scale = 128, (0.5, 1.0)
    train.epochs, train.warmup_epochs, train.base_lr = 2.0, 0.2, 4e-3


def _finetune(model, data, train):
    data.batch_size, data.crop_scale, data.labels_per_class = 64, (0.7, 1.0), 20
    train.objective, train.steps, train.warmup_steps = "classify", 200, 20
    train.base_lr, train.beta2, train.layer_decay = 6e-3, 0.999, 0.75
    train.label_smoothing, train.mixup = 0.1, 0.8


def _probe(model, data, train):
    model.pool = "token"
    data.batch_size, data.crop_scale, data.labels_per_class = 200, (0.7, 1.0), 200
    train.objective, train.optimizer = "probe", "lars"
    train.epochs, train.warmup_epochs = 20.0, 2.0
    # Chosen on held-out training images: at the paper's 0.1 so few updates move nothing.
    train.base_lr, train.weight_decay = 60.0, 0.0
