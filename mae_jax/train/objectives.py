"""What is learned: the loss and the measures of a model on a batch, one class per task.

An objective is hashable and holds no arrays, so that the compiled step can be shared by every run
that has an equal one.
"""

import dataclasses
import inspect
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mae_jax.config import dimension_arguments
from mae_jax.models import masking, sizes
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer

Batch = dict[str, jax.Array]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def channel_statistics(config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, of pixels in 0 to 1, as the config says."""
    channels, rgb = config.model.channels, config.model.channels == 3
    mean = tuple(config.data.mean) or (IMAGENET_MEAN if rgb else (0.5,))
    std = tuple(config.data.std) or (IMAGENET_STD if rgb else (0.5,))
    return tuple(mean * channels)[:channels], tuple(std * channels)[:channels]


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype a config names; `auto` is bfloat16 on accelerators and float32 on a CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def _model_arguments(config) -> dict[str, Any]:
    model = config.model
    return dimension_arguments(config) | dict(
        size=model.size,
        class_token=model.class_token,
        dtype=compute_dtype(model.dtype),
        scan=jax.default_backend() == "cpu" if model.scan is None else model.scan,
        grouped=model.attention == "grouped"
        or (model.attention == "auto" and jax.default_backend() == "tpu"),
    )


@dataclasses.dataclass(frozen=True)
class Objective:
    """What every task shares.

    Attributes:
      arguments: of the model's class, as sorted pairs.
      mean, std: per channel, of pixels in 0 to 1.
    """

    arguments: tuple[tuple[str, Any], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    # Last names of parameters of several dimensions that weight decay leaves alone all the same.
    undecayed: ClassVar[tuple[str, ...]] = ()

    @property
    def dimensions(self) -> sizes.Dimensions:
        """The model's."""
        names = inspect.signature(sizes.resolve).parameters
        return sizes.resolve(**{k: v for k, v in self.arguments if k in names})

    def create(self, rngs: nnx.Rngs) -> nnx.Module:
        """A model with fresh parameters."""
        raise NotImplementedError

    def graphdef(self) -> nnx.GraphDef:
        """The model's structure without its arrays."""
        return nnx.graphdef(nnx.eval_shape(lambda: self.create(nnx.Rngs(0))))

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with the random numbers that its samples need, drawn at its full shape."""
        del key
        return batch

    def loss(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Scalar float32 loss of a batch that `draw` has been through."""
        raise NotImplementedError

    def measure(self, model: nnx.Module, batch: Batch) -> Batch:
        """Measures of every sample of a drawn batch, each (B,) float32."""
        raise NotImplementedError

    def standardise(self, images: jax.Array) -> jax.Array:
        """(B, *spatial, C) uint8 or float32 to float32 of zero mean and unit deviation."""
        shape = (1,) * (images.ndim - 1) + (len(self.mean),)
        mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (self.mean, self.std))
        # Pixels that come as float32 are in the units of the mean already.
        pixels = images / jnp.float32(255) if images.dtype == jnp.uint8 else images
        return (pixels.astype(jnp.float32) - mean) / std


@dataclasses.dataclass(frozen=True)
class Reconstruct(Objective):
    """Predict the pixels of hidden patches (paper, section 3)."""

    @classmethod
    def from_config(cls, config) -> "Reconstruct":
        model = config.model
        arguments = _model_arguments(config) | dict(
            mask_ratio=model.mask_ratio,
            sampling=model.sampling,
            norm_pix=model.norm_pix,
            mask_tokens_in_encoder=model.mask_tokens_in_encoder,
        )
        return cls(tuple(sorted(arguments.items())), *channel_statistics(config))

    def create(self, rngs: nnx.Rngs) -> MaskedAutoencoder:
        return MaskedAutoencoder(**dict(self.arguments), rngs=rngs)

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        sample = masking.SAMPLINGS[dict(self.arguments)["sampling"]]
        return batch | {"noise": sample(key, len(batch["image"]), self.dimensions.grid)}

    def loss(self, model: MaskedAutoencoder, batch: Batch) -> jax.Array:
        return model.loss(self.standardise(batch["image"]), noise=batch["noise"])

    def measure(self, model: MaskedAutoencoder, batch: Batch) -> Batch:
        images = self.standardise(batch["image"])
        output = model(images, noise=batch["noise"])
        hidden = model.patch_errors(images, output.pred) * output.mask
        return {"loss": hidden.sum(1) / output.mask.sum(1)}

    def reconstruct(self, model: MaskedAutoencoder, batch: Batch) -> tuple[jax.Array, ...]:
        """For a drawn batch: pictures (B, *spatial, C) in 0 to 1 and the mask (B, N)."""
        images = self.standardise(batch["image"])
        output = model(images, noise=batch["noise"])
        pictures = model.predicted_images(images, output)
        shape = (1,) * (pictures.ndim - 1) + (len(self.mean),)
        mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (self.mean, self.std))
        return jnp.clip(pictures * std + mean, 0, 1), output.mask

    def features(self, model: MaskedAutoencoder, batch: Batch) -> jax.Array:
        """(B, D) float32: the encoder's patch tokens, nothing hidden, averaged."""
        tokens = model.encoder(self.standardise(batch["image"]))
        first = 0 if model.encoder.cls_token is None else 1
        return tokens[:, first:].astype(jnp.float32).mean(1)


@dataclasses.dataclass(frozen=True)
class Classify(Objective):
    """Predict the class of an image (paper, section 4 and appendix A.1)."""

    label_smoothing: float
    mixup: float

    undecayed = ("pos_embed", "cls_token")

    @classmethod
    def from_config(cls, config, classes: int) -> "Classify":
        arguments = _model_arguments(config) | dict(classes=classes, pool=config.model.pool)
        for name in ("decoder_width", "decoder_depth", "decoder_heads"):
            del arguments[name]
        statistics = channel_statistics(config)
        train = config.train
        return cls(
            tuple(sorted(arguments.items())), *statistics, train.label_smoothing, train.mixup
        )

    def create(self, rngs: nnx.Rngs) -> VisionTransformer:
        return VisionTransformer(**dict(self.arguments), rngs=rngs)

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        if not self.mixup:
            return batch
        # Partners are looked up here, at the batch's full shape; only the loss mixes them in.
        partner_key, share_key = jax.random.split(key)
        partner = jax.random.permutation(partner_key, len(batch["image"]))
        return batch | {
            "partner_image": batch["image"][partner],
            "partner_label": batch["label"][partner],
            "share": jax.random.beta(share_key, self.mixup, self.mixup, partner.shape),
        }

    def loss(self, model: VisionTransformer, batch: Batch) -> jax.Array:
        images, targets = self.standardise(batch["image"]), self._targets(batch["label"])
        if self.mixup:
            share = batch["share"]
            images = _mixed(images, self.standardise(batch["partner_image"]), share)
            targets = _mixed(targets, self._targets(batch["partner_label"]), share)
        logits = model(images)
        return optax.softmax_cross_entropy(logits, targets).mean()

    def _targets(self, labels: jax.Array) -> jax.Array:
        return optax.smooth_labels(
            jax.nn.one_hot(labels, dict(self.arguments)["classes"]), self.label_smoothing
        )

    def measure(self, model: VisionTransformer, batch: Batch) -> Batch:
        logits = model(self.standardise(batch["image"]))
        return {
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]),
            "accuracy": (logits.argmax(-1) == batch["label"]).astype(jnp.float32),
        }


def _mixed(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
    """share * a + (1 - share) * b, with a share (B,) for every sample."""
    share = share.reshape(-1, *[1] * (a.ndim - 1))
    return share * a + (1 - share) * b
