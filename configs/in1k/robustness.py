r"""Measure a classifier of ImageNet-1K on its robustness sets, each by its own metric.

    mae-jax evaluate SOURCE --config=configs/in1k/robustness.py --out=runs/robustness \
        --robustness=imagenet_c,imagenet_a,imagenet_r,imagenet_sketch

SOURCE is what configs/in1k/finetune.py trained, or any classifier; the sets come from tfds, or with
--root=FOLDER from the folders that their archives unpack to. Expect for the fine-tuned ViT-B, L, H
and H at 448 (He et al. 2022, table 13, as published; not yet runs of ours):

    ImageNet-C, mean corruption error over AlexNet's, %    51.7  41.8  33.8  36.8
    ImageNet-A, top-1 among its 200 classes, %             35.9  57.1  68.2  76.7
    ImageNet-R, top-1 among its 200 classes, %             48.3  59.9  64.4  66.5
    ImageNet-Sketch, top-1, %                              34.5  45.3  49.6  50.9

Without --robustness it is measured on the validation set.
"""

from mae_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name, config.data.split = "imagenet2012", "validation"
    config.data.batch_size = 256
    config.train.objective = "classify"
    return config
