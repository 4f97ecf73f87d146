"""What is learned: the loss and the measures of a model on a batch, one class per task.

An objective is hashable and holds no arrays, so that the compiled step can be shared by every run
that has an equal one.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mae_jax.config.architecture import dimension_arguments, settled_model
from mae_jax.errors import UsageError
from mae_jax.models import flops, masking, sizes, targets
from mae_jax.models.encoder import Encoder
from mae_jax.models.fast import ways
from mae_jax.models.keys import Keys
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.pixels import Pixels
from mae_jax.train import own
from mae_jax.train import teacher as teacher_lib

Batch = dict[str, jax.Array]


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype a config names; `auto` is bfloat16 on accelerators and float32 on a CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def model_arguments(config) -> dict[str, Any]:
    """What every model is made with, as a config says it."""
    model = settled_model(config)
    return dimension_arguments(config) | dict(
        class_token=model.class_token and model.class_tokens,
        dtype=compute_dtype(model.dtype),
        scan=model.scan,
        remat=model.remat,
    )


def encoder_arguments(config) -> dict[str, Any]:
    """The same of a model without a decoder."""
    given = model_arguments(config)
    return {name: value for name, value in given.items() if not name.startswith("decoder_")}


@dataclasses.dataclass(frozen=True)
class Objective:
    """What every task shares.

    Attributes:
      arguments: of the model's class, as sorted pairs.
      pixels: what the model is given.
      attention: the name of a way to compute it, or auto; see `fast.ways.choose`.
      teacher: whose tokens are learned from, if there is one.
    """

    arguments: tuple[tuple[str, Any], ...]
    pixels: Pixels
    attention: str = "auto"
    teacher: teacher_lib.Teacher | None = None

    # Last names of parameters of several dimensions that weight decay leaves alone all the same.
    undecayed: ClassVar[tuple[str, ...]] = ()

    @property
    def dimensions(self) -> sizes.Dimensions:
        """The model's."""
        names = inspect.signature(sizes.resolve).parameters
        return sizes.resolve(**{k: v for k, v in self.arguments if k in names})

    @property
    def flops(self) -> int | None:
        """Operations per image of a training step; None where nobody counted them."""
        return None

    def create(self, rngs: nnx.Rngs, attention: ways.Way = ways.PLAIN) -> nnx.Module:
        """A model with fresh parameters, which are the same for every way to compute attention."""
        raise NotImplementedError

    def abstract(self, attention: ways.Way = ways.PLAIN) -> nnx.Module:
        """The model with shapes in the place of its arrays."""
        return nnx.merge(*_abstract(self, attention))

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with the random numbers that its samples need, drawn at its full shape."""
        del key
        return batch

    def taught(self, encoder: Encoder, batch: Batch) -> Batch:
        """A batch with the tokens that the teacher's encoder makes of its images."""
        return batch | self.teacher.tokens(encoder, batch["image"])

    def moments(self, model: nnx.Module, batch: Batch) -> Batch:
        """Mean and variance, (2, V) each, of the teacher's tokens in a batch, by their names."""
        del model
        found = {}
        for name in [name for name in teacher_lib.NAMES if name in batch]:
            tokens = batch[name].reshape(-1, batch[name].shape[-1])
            found[name] = jnp.stack([tokens.mean(0), tokens.var(0)])
        return found

    @property
    def taught_flops(self) -> int:
        """Operations per image that a teacher takes; 0 without one."""
        if self.teacher is None:
            return 0
        token = dict(self.teacher.arguments)["class_token"]
        return flops.encoder_flops(self.teacher.dimensions, class_token=token)

    def loss(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Scalar float32 loss, by a model as `create` makes it, of a drawn batch.

        Where there is a teacher, of one that is `taught`.
        """
        raise NotImplementedError

    @property
    def looks_across(self) -> bool:
        """Whether the loss is of the whole batch, and so not the mean of the losses of its parts.

        If it is, nothing below `encode` is trained.
        """
        return False

    def encode(self, model: nnx.Module, batch: Batch) -> Batch:
        """A drawn batch with features in the place of images, each of its own sample alone.

        Where the loss looks across the batch, it takes either.
        """
        raise NotImplementedError

    def measure(self, model: nnx.Module, batch: Batch) -> Batch:
        """Measures of every sample of a drawn batch, each (B,) float32."""
        raise NotImplementedError

    def features(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Of every sample, (B, D) float32; see `Encoder.mean_patches`."""
        return model.encoder.mean_patches(self.pixels.standardise(batch["image"]))


@functools.lru_cache(maxsize=32)
def _abstract(objective, attention):
    # Kept, as it takes seconds for a large model, and every program of a run asks for it.
    return nnx.split(nnx.eval_shape(lambda: objective.create(Keys(0), attention)))


@dataclasses.dataclass(frozen=True)
class Reconstruct(Objective):
    """Predict hidden patches (paper, section 3).

    Attributes:
      sample: draws the masks; see `models.masking`.
      tokenizer: gives every patch a code, where codes are predicted: from images in the units of
        the pixels' mean and deviation, (B, *spatial, C) float32, to (B, N) int32.
    """

    sample: masking.Sampling = masking.random_noise
    tokenizer: Callable[[jax.Array], jax.Array] | None = None

    @classmethod
    def from_config(cls, config, teacher: teacher_lib.Teacher | None = None) -> "Reconstruct":
        """As a config says.

        Args:
          teacher: where its target is features.

        Raises:
          UsageError: a function that it names cannot be had, or is not what it should be; or a
            teacher is wanted.
        """
        model = settled_model(config)
        tokenizer, target, size = None, model.target, None
        if target == "pca":
            size = model.pca_components
        elif target == "features":
            if teacher is None:
                raise UsageError(teacher_lib.NOT_HERE)
            size, teacher = teacher.width, dataclasses.replace(teacher, class_token=False)
        elif target not in targets.TARGETS:
            tokenizer = own.tokenizer(target, config)
            target, size = "tokens", tokenizer.vocabulary
        arguments = model_arguments(config) | dict(
            mask_ratio=model.mask_ratio,
            sampling=model.sampling,
            mask_unit=model.mask_unit,
            loss_on=model.loss_on,
            decode_ratio=model.decode_ratio,
            decoder_attention=model.decoder_attention,
            norm_pix=model.norm_pix,
            target=target,
            target_size=size,
            mask_tokens_in_encoder=model.mask_tokens_in_encoder,
        )
        plain = cls(
            tuple(sorted(arguments.items())), Pixels.from_config(config), model.attention, teacher
        )
        units = masking.grid_of_units(plain.dimensions.grid, model.mask_unit)
        sample = own.sampling(model.sampling, units)
        return dataclasses.replace(plain, sample=sample, tokenizer=tokenizer)

    @property
    def needs_directions(self) -> bool:
        """Whether its target is measured by the principal directions of patches."""
        return dict(self.arguments)["target"] == "pca"

    @property
    def flops(self) -> int:
        names = inspect.signature(flops.training_flops).parameters
        given = {name: value for name, value in self.arguments if name in names}
        return flops.training_flops(self.dimensions, **given) + self.taught_flops

    @property
    def kept(self) -> int:
        """Patches of an image that the loss leaves visible."""
        d, given = self.dimensions, dict(self.arguments)
        together = given["mask_unit"] ** len(d.grid)
        return masking.kept_patches(d.patches, given["mask_ratio"], together)

    def create(self, rngs: nnx.Rngs, attention: ways.Way = ways.PLAIN) -> MaskedAutoencoder:
        return MaskedAutoencoder(**dict(self.arguments), attention=attention, rngs=rngs)

    def draw(self, batch: Batch, key: jax.Array) -> Batch:
        count, grid, given = len(batch["image"]), self.dimensions.grid, dict(self.arguments)
        noise = masking.draw(self.sample, key, count, grid, given["mask_unit"])
        if given["decode_ratio"] < 1:  # by a key of its own: the masks are those of any share
            noise = masking.shuffle_hidden(noise, jax.random.fold_in(key, 1), self.kept)
        drawn = batch | {"noise": noise}
        if self.tokenizer is not None:
            drawn["codes"] = self.tokenizer(self.pixels.in_units(batch["image"]))
        return drawn

    def loss(self, model: MaskedAutoencoder, batch: Batch) -> jax.Array:
        return model.loss(
            batch["image"],
            noise=batch["noise"],
            standardise=self.pixels.standardise,
            known=self.pixels.known,
            codes=_wanted(batch),
        )

    def measure(self, model: MaskedAutoencoder, batch: Batch) -> Batch:
        images, known = self.pixels.standardise(batch["image"]), self.pixels.known(batch["image"])
        more = dict(codes=_wanted(batch), known=known)
        output = model(images, noise=batch["noise"], **more)
        return {"loss": model.losses(images, output.pred, output.mask, **more)}

    def reconstruct(
        self, model: MaskedAutoencoder, batch: Batch
    ) -> tuple[jax.Array | None, jax.Array]:
        """For a drawn batch: pictures (B, *spatial, C), in the units of the pixels' mean and
        deviation, or None where the target cannot be drawn, and the mask (B, N)."""
        images, known = self.pixels.standardise(batch["image"]), self.pixels.known(batch["image"])
        output = model(images, noise=batch["noise"], codes=_wanted(batch), known=known)
        if not model.target.pictured:
            return None, output.mask
        return self.pixels.restored(model.predicted_images(images, output, known)), output.mask


def _wanted(batch):
    """What stands for the patches of a batch, where it is no function of their pixels alone."""
    return batch.get("codes", batch.get(teacher_lib.PATCHES))
