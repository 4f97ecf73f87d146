r"""Fine-tune on a folder of your own with a sub-folder for each class, however few images it has.

    mae-jax finetune --config=configs/folder_finetune.py --config.data.folder=LABELLED \
        --config.init_from=runs/photos --workdir=runs/photos-finetune

LABELLED holds labelled images alone, as `train/cat`, `train/dog`, ... and `val/cat`, ...; where the
classes are at the top, without `train` and `val`, or in a table (data.labels), give

    --config.data.split='all[:80%]' --config.data.eval_split='all[80%:]'

Without init_from the same network is trained from scratch, to compare with; of many labels
--config.data.labels_per_class=N takes a few. Expect accuracy on the held-out images at the end, and
top-5 accuracy for six classes and more; what they will be depends on the images. The settings are
a place to start and no measured choice: 1000 updates for any number of labels, mild crops, and a
layer decay that leaves the first blocks nearly as they were. README.md has what ten labels of each
class gave on the digits. `configs/folder_finetune.py:small` goes with `configs/folder.py:small`:
gentler on images, as few updates of a small network learn little from images that are mixed.
"""

from mae_jax.config import default_config

VARIANTS = PHOTOS, SMALL = "photos", "small"


def get_config(variant=PHOTOS):
    config = default_config()
    model, data, train = config.model, config.data, config.train
    {PHOTOS: _photos, SMALL: _small}[variant](model, data, train)
    data.split, data.eval_split, data.batch_size = "train", "val", 64
    train.objective, train.beta2, train.layer_decay = "classify", 0.999, 0.75
    train.label_smoothing = 0.1
    # Few images are passed over many times: one checkpoint and one evaluation, at the end.
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 1e6
    config.log.every_steps = 50
    return config


def _photos(model, data, train):
    # With init_from the dimensions and the images' size come from there; this is for training from
    # scratch, with images of 224 pixels.
    model.size, model.drop_path = "small", 0.1
    data.crop_scale, data.randaugment = (0.3, 1.0), 2
    train.steps, train.warmup_steps, train.base_lr = 1000, 100, 2e-3
    train.mixup, train.cutmix, train.erasing = 0.8, 1.0, 0.25


def _small(model, data, train):
    # Of training from scratch; with init_from these come from there.
    model.width, model.depth, model.heads = 96, 6, 4
    model.image_size, model.patch_size = (32, 32), (4, 4)
    data.cache, data.crop_scale, data.eval_crop = True, (0.5, 1.0), 1.0
    train.steps, train.warmup_steps, train.base_lr, train.mixup = 600, 60, 4e-3, 0.2
