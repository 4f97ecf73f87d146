"""The one schema of every configuration: type, default, range and meaning of each key."""

from collections.abc import Iterator
from typing import Any

from mae_jax.config.data_keys import DATA
from mae_jax.config.key import (
    Key,
    above,
    at_least,
    below_one,
    one_of,
    one_of_or_function,
    sides,
    within,
)

PRETRAINING = ("reconstruct", "distill")  # what makes an encoder of images alone

SCHEMA: dict[str, Any] = {
    "seed": Key(
        0, "decides data order, augmentation, masks and initial parameters", **within(0, 2**32 - 1)
    ),
    "init_from": Key(
        None,
        "what to start from: a work folder, or any SOURCE of `mae-jax --help`; in pre-training all "
        "of the model that it holds, else the encoder",
        kind=str,
    ),
    "init_part": Key(
        None,
        "what of init_from pre-training starts from: full, its decoder too, or the encoder alone; "
        "unset: all there is",
        kind=str,
        **one_of("encoder", "full"),
    ),
    "init_channels": Key(
        (),
        "for every channel of the images, which of init_from's it starts from, counted from 0, or "
        "-1 for their mean; () where they are the same, or one is grey",
        allowed=lambda turn: all(type(c) is int and c >= -1 for c in turn),
        range="of channels from 0, or -1",
    ),
    "model": {
        "size": Key(
            None,
            "tiny, small, base, large or huge; sets what is not set below; unset: that of "
            "init_from, or base",
            kind=str,
            **one_of("tiny", "small", "base", "large", "huge"),
        ),
        "image_size": Key(
            None,
            "height and width in pixels; unset: those of init_from, or 224",
            kind=tuple,
            **sides,
        ),
        "patch_size": Key(None, "height and width of a patch in pixels", kind=tuple, **sides),
        "channels": Key(
            None, "values per pixel; unset: as init_from, or 3", kind=int, **at_least(1)
        ),
        "width": Key(None, "encoder width", kind=int, **at_least(1)),
        "depth": Key(None, "encoder blocks", kind=int, **at_least(1)),
        "heads": Key(None, "encoder attention heads", kind=int, **at_least(1)),
        "decoder_width": Key(None, "decoder width", kind=int, **at_least(1)),
        "decoder_depth": Key(None, "decoder blocks", kind=int, **at_least(1)),
        "decoder_heads": Key(None, "decoder attention heads", kind=int, **at_least(1)),
        "mask_ratio": Key(0.75, "share of the patches that is hidden", **within(0.0, 1.0)),
        "sampling": Key(
            "random",
            "how hidden patches are chosen",
            **one_of_or_function("random", "block", "grid"),
        ),
        "mask_unit": Key(
            1,
            "patches along every axis that are hidden together, so that 4 hides units of 4 x 4",
            **at_least(1),
        ),
        "loss_on": Key(
            "hidden", "patches that are predicted and compared", **one_of("hidden", "all")
        ),
        "decode_ratio": Key(
            1.0,
            "share of the hidden patches, others in every step, that training decodes and compares",
            allowed=lambda value: 0 < value <= 1,
            range="above 0 and at most 1",
        ),
        "decoder_attention": Key(
            None,
            "self: all tokens of the decoder look at all; cross: hidden patches look at visible "
            "ones alone (CrossMAE); unset: as init_from, or self",
            kind=str,
            **one_of("self", "cross"),
        ),
        "norm_pix": Key(
            None,
            "normalise each patch by its mean and deviation, before it is compared; unset: as "
            "init_from, or True",
            kind=bool,
        ),
        "target": Key(
            None,
            "what is predicted of a patch: its pixels; pca, its largest PCA coefficients; "
            "features, the token that train.teacher gives it; or the code that a tokenizer gives "
            "it; unset: as init_from, or pixels",
            kind=str,
            **one_of_or_function("pixels", "pca", "features"),
        ),
        "pca_components": Key(96, "coefficients that target pca has", **at_least(1)),
        "class_token": Key(
            None, "carry a class token along; unset: as init_from, or True", kind=bool
        ),
        "class_tokens": Key(
            None,
            "how many, where there is one; unset: as init_from, or 1",
            kind=int,
            **at_least(1),
        ),
        "mask_tokens_in_encoder": Key(
            None,
            "show hidden patches to the encoder as mask tokens; unset: as init_from, or False",
            kind=bool,
        ),
        "pool": Key("mean", "what a classifier reads", **one_of("mean", "token")),
        "drop_path": Key(
            0.0,
            "how often a classifier's last block is skipped in training, rising from 0 at the "
            "first; per image",
            **below_one,
        ),
        "dtype": Key(
            "auto",
            "computation: auto is bfloat16 on accelerators, float32 on CPU",
            **one_of("auto", "float32", "bfloat16"),
        ),
        "attention": Key(
            "auto",
            "how heads are multiplied: plain; grouped, as wide as a TPU's registers; packed, "
            "in few passes over memory, for a single CPU; cudnn, in one kernel of cuDNN's, for "
            "GPUs in bfloat16; auto: what suits the device",
            **one_of("auto", "plain", "grouped", "packed", "cudnn"),
        ),
        "remat": Key(
            False,
            "compute blocks again for the gradient instead of storing what is inside: less memory, "
            "a third more work",
        ),
        "scan": Key(
            False, "run blocks as one scanned block: compiles several times as fast, runs slower"
        ),
    },
    "data": DATA,
    "train": {
        "objective": Key(
            "reconstruct",
            "what is learned: reconstruct, hidden patches; distill, the tokens of train.teacher; "
            "classify, classes; probe, these by a linear probe of the class token",
            **one_of(*PRETRAINING, "classify", "probe"),
        ),
        "teacher": Key(
            None,
            "whose tokens are learned, any SOURCE of `mae-jax --help`: its encoder stands still, "
            "and is not saved with the run",
            kind=str,
        ),
        "epochs": Key(None, "passes over the data", kind=float, **above(0)),
        "steps": Key(None, "updates, instead of epochs", kind=int, **at_least(1)),
        "warmup_epochs": Key(40.0, "linear warm-up from zero", **at_least(0)),
        "warmup_steps": Key(
            None, "the warm-up in updates, instead of epochs", kind=int, **at_least(0)
        ),
        "base_lr": Key(1.5e-4, "peak learning rate per 256 images of the batch", **at_least(0)),
        "min_lr": Key(0.0, "learning rate the half-cosine ends at", **at_least(0)),
        "weight_decay": Key(
            0.05,
            "decoupled decay; not of biases and norms, nor of a classifier's positions and class "
            "token",
            **at_least(0),
        ),
        "optimizer": Key("adamw", "how gradients become updates", **one_of("adamw", "lars")),
        "beta1": Key(0.9, "AdamW's first decay; the momentum of LARS", **below_one),
        "beta2": Key(0.95, "AdamW's second decay", **below_one),
        "layer_decay": Key(
            1.0,
            "learning rate of an encoder's block over that of the next; 1 above the last",
            allowed=lambda decay: 0 < decay <= 1,
            range="above 0 and at most 1",
        ),
        "settle_epochs": Key(
            0.0,
            "what is new beside a pre-trained encoder settles first: for so long the encoder "
            "learns at train.settle_lr of its rate",
            **at_least(0),
        ),
        "settle_steps": Key(
            None, "the same in updates, instead of epochs", kind=int, **at_least(0)
        ),
        "settle_lr": Key(
            0.0,
            "meanwhile, the encoder's learning rate over its own; 0: it stands still",
            **within(0, 1),
        ),
        "trained_blocks": Key(
            None,
            "fine-tune the last so many blocks and the head only; 0.5 is the last block's MLP",
            kind=float,
            allowed=lambda blocks: blocks == 0.5 or (blocks >= 0 and blocks == int(blocks)),
            range="0.5, or whole and at least 0",
        ),
        "ema": Key(
            None,
            "decay per step of a moving average of the parameters, which is measured too and then "
            "taken wherever the run's weights are",
            kind=float,
            **below_one,
        ),
        "clip_norm": Key(None, "largest global gradient norm", kind=float, **above(0)),
        "accumulate": Key(
            1, "parts a batch is split into, their gradients averaged", **at_least(1)
        ),
        "max_skipped": Key(
            5,
            "steps in a row that may make no update, because loss or gradient are not finite, "
            "before the run ends; 0 ends it at the first",
            **at_least(0),
        ),
        "check_replicas_every": Key(
            None,
            "steps between comparisons, bit for bit, of the copies of the state over devices; they "
            "come before each save too, and a difference ends the run; unset: none are made",
            kind=int,
            **at_least(1),
        ),
        "label_smoothing": Key(0.0, "mass moved from the label to all classes", **within(0, 1)),
        "mixup": Key(0.0, "alpha of the Beta that mixes pairs of labelled images", **at_least(0)),
        "cutmix": Key(0.0, "alpha of the Beta for the area that comes from another", **at_least(0)),
        "cutmix_share": Key(0.5, "how often cutmix is taken where mixup is on too", **within(0, 1)),
        "erasing": Key(0.0, "how often a part of an image is replaced by noise", **within(0, 1)),
    },
    "parallel": {
        "fsdp": Key(
            None,
            "devices that parameters and optimizer are split over; unset: 1 where the optimizer "
            "takes less than 256 MiB, else up to 32 or 64, of several hosts not all",
            kind=int,
            **at_least(1),
        ),
        "tensor": Key(1, "devices that each block is split over, by heads", **at_least(1)),
        "zero": Key(
            False,
            "split the optimizer's state over all devices along the batch, and leave the "
            "parameters whole unless parallel.fsdp says otherwise (ZeRO-1)",
        ),
    },
    "checkpoint": {
        "every_epochs": Key(
            None,
            "how often to save; where neither steps nor minutes are given, 1",
            kind=float,
            **above(0),
        ),
        "every_steps": Key(None, "save after so many steps, too", kind=int, **at_least(1)),
        "every_minutes": Key(None, "save after so many minutes, too", kind=float, **above(0)),
        "keep": Key(2, "how many of the latest to keep", **at_least(1)),
        "keep_every_steps": Key(
            None, "save after so many steps and keep that, for good", kind=int, **at_least(1)
        ),
        "keep_best": Key(
            None,
            "keep the best by this measure too, such as eval_loss; what is measured is then saved",
            kind=str,
        ),
    },
    "log": {
        "every_steps": Key(50, "how often to print and record", **at_least(1)),
        "eval_every_epochs": Key(10.0, "how often to measure on the held-out part", **above(0)),
        "panel_every_epochs": Key(20.0, "how often to draw reconstructions", **above(0)),
        "knn": Key(
            True,
            "report kNN accuracy of the frozen encoder where there are labels",
        ),
        "diagnose": Key(
            True,
            "in pre-training, report what tells whether it learns: the loss on training images "
            "that are seen and hidden as held-out ones are, and the effective rank of features; "
            "of 1024 images at most",
        ),
        "knn_neighbours": Key(20, "how many vote", **at_least(1)),
        "knn_temperature": Key(
            0.07,
            "of their votes, which weigh exp(similarity / this)",
            **above(0),
        ),
        "knn_images": Key(20_000, "training images kNN compares with, at most", **at_least(1)),
        "sharding": Key(
            False,
            "print what is split over which devices, with bytes per device",
        ),
        "tensorboard": Key(True, "write TensorBoard files too"),
        "trackers": Key(
            (),
            "tell these too what metrics.jsonl has, and show them panels: wandb, mlflow",
            allowed=lambda names: all(isinstance(name, str) for name in names),
            range="of names",
        ),
        "track_encoder": Key(
            False, "give trackers the exported encoder, when the run has come to its end"
        ),
    },
}


def all_keys(schema: dict[str, Any] = SCHEMA, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Every key as (dotted name, Key), in schema order."""
    for name, entry in schema.items():
        if isinstance(entry, Key):
            yield prefix + name, entry
        else:
            yield from all_keys(entry, f"{prefix}{name}.")
