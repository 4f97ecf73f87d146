r"""Fine-tune a pre-trained encoder on Places365: ViT-B/16, L/16, H/14, and H/14 at 448.

    mae-jax finetune --config=configs/places.py:l16 --config.init_from=SOURCE \
        --workdir=runs/places-l16

and `:b16`, `:h14`, `:h14_448`. For Places205 give --config.data.folder. Expect top-1 accuracies
in % of (He et al. 2022, table 6, as published; not yet runs of ours)

                 B     L     H    H at 448
    Places205   63.9  65.8  65.9  66.8
    Places365   57.9  59.4  59.8  60.3

from encoders pre-trained on ImageNet-1K for 1600 epochs. The paper (appendix A.5) took the recipe
of its table 9 with a learning rate and a length for each set, which it does not tell. This is the
recipe of configs/in1k/finetune.py, as a place to start; the length is a guess.
"""

from mae_jax.config import default_config

# model size, side of the images in pixels, base learning rate, layer decay, drop path
VARIANTS = {
    "b16": ("base", 224, 5e-4, 0.65, 0.1),
    "l16": ("large", 224, 1e-3, 0.75, 0.2),
    "h14": ("huge", 224, 1e-3, 0.75, 0.3),
    "h14_448": ("huge", 448, 1e-3, 0.75, 0.3),
}


def get_config(variant: str = "b16"):
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.size, side, train.base_lr, train.layer_decay, model.drop_path = VARIANTS[variant]
    model.image_size = (side, side)

    data.name, data.split, data.eval_split = "places365_small", "train", "validation"
    data.batch_size, data.workers = 1024, 8
    data.crop_scale, data.randaugment = (0.08, 1.0), 2

    train.objective, train.epochs, train.warmup_epochs = "classify", 50.0, 5.0
    train.min_lr, train.weight_decay, train.beta2 = 1e-6, 0.05, 0.999
    train.mixup, train.cutmix, train.label_smoothing, train.erasing = 0.8, 1.0, 0.1, 0.25
    return config
