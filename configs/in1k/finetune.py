r"""Fine-tune a pre-trained encoder on ImageNet-1K: ViT-B/16, L/16, H/14, and H/14 at 448.

    mae-jax finetune --config=configs/in1k/finetune.py:b16 --config.init_from=SOURCE \
        --workdir=runs/in1k-b16-finetune

and `:l16`, `:h14`, `:h14_448` for the others. Expect 83.6, 85.9, 86.9 and 87.8 % top-1 on the
validation set, from encoders pre-trained for 1600 epochs (He et al. 2022, table 3, as published;
not yet runs of ours).

The values are those of the published repository's page on fine-tuning, for encoders of norm-pix
targets, and as there the mean of the patch tokens is read. The paper's table 9 has others: a base
learning rate of 1e-3, a layer decay of 0.75, drop path 0.1 (B, L) and 0.2 (H) and no random
erasing; and its class token is read (appendix A.1; here model.pool='token'). Warm-up, batch, mixing
and lengths are the same in both. At 448 we take what holds at 224, with the positions resized;
above 224 pixels the evaluation's view is the whole shorter side, as in the published code.

For partial fine-tuning add --config.train.trained_blocks=0.5 or a number of blocks. Figure 9 has
ViT-L of 800 epochs at 73.5 % with no block, 79.1 % with the last MLP alone, 81.0 % with one block,
83.1 with two, 84.2 with four, each the best of three lengths of training.
"""

from mae_jax.config import default_config

# model size, side of the images in pixels, base learning rate, layer decay, drop path, epochs
VARIANTS = {
    "b16": ("base", 224, 5e-4, 0.65, 0.1, 100.0),
    "l16": ("large", 224, 1e-3, 0.75, 0.2, 50.0),
    "h14": ("huge", 224, 1e-3, 0.75, 0.3, 50.0),
    "h14_448": ("huge", 448, 1e-3, 0.75, 0.3, 50.0),
}


def get_config(variant: str = "b16"):
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.size, side, train.base_lr, train.layer_decay, model.drop_path, train.epochs = VARIANTS[
        variant
    ]
    model.image_size = (side, side)

    data.name, data.split, data.eval_split = "imagenet2012", "train", "validation"
    data.batch_size, data.workers = 1024, 8
    data.crop_scale, data.randaugment = (0.08, 1.0), 2

    train.objective, train.warmup_epochs, train.min_lr = "classify", 5.0, 1e-6
    train.weight_decay, train.beta2 = 0.05, 0.999
    train.mixup, train.cutmix, train.label_smoothing, train.erasing = 0.8, 1.0, 0.1, 0.25
    config.log.eval_every_epochs = 5.0
    return config
