"""The task of naming what an image shows: fine-tuning, training from scratch, linear probes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mae_jax.models import flops, transformer
from mae_jax.models.fast import ways
from mae_jax.models.vit import VisionTransformer
from mae_jax.pixels import Pixels
from mae_jax.train import mixing
from mae_jax.train.objectives import Batch, Objective, encoder_arguments

_TOP = 5


@dataclasses.dataclass(frozen=True)
class Classify(Objective):
    """Predict the class of an image (paper, section 4 and appendix A.1).

    Attributes:
      label_smoothing: mass moved from the label to all classes.
      mixup, cutmix: alpha of each one's Beta; 0 leaves it out.
      cutmix_share: how often cutmix is taken where both are on.
      erasing: how often a part of an image is replaced by noise.
      drop_path: how often the last block's branches are dropped.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_share: float = 0.5
    erasing: float = 0.0
    drop_path: float = 0.0

    undecayed = ("pos_embed", "cls_token")

    @classmethod
    def from_config(cls, config, classes: int) -> "Classify":
        """A classifier, or a linear probe, as `train.objective` says."""
        model, train = config.model, config.train
        probe = train.objective == "probe"
        arguments = encoder_arguments(config) | dict(
            classes=classes, pool=model.pool, normalise_head=probe
        )
        plain = cls(tuple(sorted(arguments.items())), Pixels.from_config(config))
        trained = 0 if probe else train.trained_blocks
        if trained is not None:
            arguments["frozen"] = plain.dimensions.depth - math.ceil(trained)
        return dataclasses.replace(
            plain,
            arguments=tuple(sorted(arguments.items())),
            attention=model.attention,
            label_smoothing=train.label_smoothing,
            mixup=train.mixup,
            cutmix=train.cutmix,
            cutmix_share=train.cutmix_share,
            erasing=train.erasing,
            drop_path=model.drop_path,
        )

    @property
    def flops(self) -> int:
        given = dict(self.arguments)
        how = {name: given[name] for name in ("class_token", "frozen") if name in given}
        return flops.classifier_flops(self.dimensions, self.classes, **how)

    @property
    def classes(self) -> int:
        """How many."""
        return dict(self.arguments)["classes"]

    def create(self, rngs: nnx.Rngs, attention: ways.Way = ways.PLAIN) -> VisionTransformer:
        return VisionTransformer(**dict(self.arguments), attention=attention, rngs=rngs)

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        size, *spatial, _ = batch["image"].shape
        mixing_key, box_key, noise_key, path_key = jax.random.split(key, 4)
        drawn = dict(batch)
        if self.erasing:
            drawn["erased"] = mixing.erasing_boxes(box_key, size, spatial, self.erasing)
            drawn["noise_seed"] = jax.random.bits(noise_key, (size,))
        if self.drop_path:
            depth = self.dimensions.depth
            drawn["scales"] = transformer.drop_path_scales(path_key, size, depth, self.drop_path)
        if self._mixes:
            mixed = mixing.mixing_draw(
                mixing_key,
                size,
                spatial,
                mixup=self.mixup,
                cutmix=self.cutmix,
                switch=self.cutmix_share,
            )
            # Partners are looked up here, at the batch's full shape; only the loss mixes them in.
            partner = mixed.pop("partner")
            names = [name for name in drawn if name != "scales"]
            drawn |= {f"partner_{name}": drawn[name][partner] for name in names} | mixed
        return drawn

    def loss(self, model: VisionTransformer, batch: Batch) -> jax.Array:
        targets = self._targets(batch["label"])
        if self._mixes:
            targets = mixing.mix(targets, self._targets(batch["partner_label"]), batch["share"])
        if "features" in batch:
            logits = model.classify(batch["features"], train=True)
        else:
            logits = model(self._images(batch), batch.get("scales"), train=True)
        return optax.softmax_cross_entropy(logits, targets).mean()

    @property
    def looks_across(self) -> bool:
        # A probe's BatchNorm does.
        return dict(self.arguments)["normalise_head"]

    def encode(self, model: VisionTransformer, batch: Batch) -> Batch:
        kept = {k: batch[k] for k in ("label", "partner_label", "share") if k in batch}
        return kept | {"features": model.features(self._images(batch), batch.get("scales"))}

    @property
    def _mixes(self):
        return bool(self.mixup or self.cutmix)

    def _images(self, batch):
        """Standardised images as the model sees them in training."""
        images = self._view(batch, "")
        if not self._mixes:
            return images
        partners = self._view(batch, "partner_")
        return mixing.mix_images(images, partners, batch["share"], batch["box"])

    def _view(self, batch, prefix):
        """Standardised images of the batch, or of their partners, erased where that was drawn."""
        images = self.pixels.standardise(batch[f"{prefix}image"])
        if not self.erasing:
            return images
        return mixing.erase(images, batch[f"{prefix}erased"], batch[f"{prefix}noise_seed"])

    def _targets(self, labels: jax.Array) -> jax.Array:
        return optax.smooth_labels(jax.nn.one_hot(labels, self.classes), self.label_smoothing)

    def logits(self, model: VisionTransformer, batch: Batch) -> jax.Array:
        """(B, classes) float32, of the images as they are."""
        return model(self.pixels.standardise(batch["image"]))

    def measure(self, model: VisionTransformer, batch: Batch) -> Batch:
        logits, labels = self.logits(model, batch), batch["label"]
        measures = {
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
            "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32),
        }
        if self.classes > _TOP:
            _, best = jax.lax.top_k(logits, _TOP)
            measures["top5"] = (best == labels[:, None]).any(1).astype(jnp.float32)
        return measures
