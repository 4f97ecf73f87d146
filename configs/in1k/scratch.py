r"""Train a classifier on ImageNet-1K from scratch: ViT-B/16, L/16 and H/14.

    mae-jax finetune --config=configs/in1k/scratch.py:b16 --workdir=runs/in1k-b16-scratch

and `:l16`, `:h14` for the others. Expect 82.3, 82.6 and 83.1 % top-1 on the validation set
(He et al. 2022, table 3, as published; not yet runs of ours). The recipe is that of table 11; the
moving average of the parameters is what to read, as `eval_ema_accuracy`.
"""

from mae_jax.config import default_config

# model size, epochs, drop path
VARIANTS = {
    "b16": ("base", 300.0, 0.1),
    "l16": ("large", 200.0, 0.2),
    "h14": ("huge", 200.0, 0.2),
}


def get_config(variant: str = "b16"):
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.size, train.epochs, model.drop_path = VARIANTS[variant]
    model.image_size = (224, 224)

    data.name, data.split, data.eval_split = "imagenet2012", "train", "validation"
    data.batch_size, data.workers = 4096, 8
    data.crop_scale, data.randaugment = (0.08, 1.0), 2

    train.objective, train.warmup_epochs, train.base_lr = "classify", 20.0, 1e-4
    train.weight_decay, train.beta2, train.ema = 0.3, 0.95, 0.9999
    train.mixup, train.cutmix, train.label_smoothing = 0.8, 1.0, 0.1
    return config
