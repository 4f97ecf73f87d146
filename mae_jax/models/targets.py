"""What is predicted of a patch, how far off a prediction is, and how it becomes a picture.

A target is a small module that the model holds. Its tables, if it has any, are saved with the
model. `TARGETS` has all of them by name.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mae_jax.models import patches
from mae_jax.models.encoder import FixedTable


class Target(nnx.Module):
    """Pixels, as they are.

    Args:
      pixels: P, how many values a patch has.
      norm_pix: whether patches are normalised by their own mean and deviation before anything else.
      size: how many numbers stand for a patch, where the target has a choice; None for its own.

    Attributes:
      values: how many numbers the decoder predicts of a patch.
      pictured: whether they say what the patch looks like.
      separable: whether each of them stands for one value of the patch, so that some can be left
        out.
    """

    pictured = separable = True

    def __init__(self, pixels: int, *, norm_pix: bool, size: int | None = None):
        if size not in (None, pixels):
            raise ValueError(f"target_size {size} must be the {pixels} values of a patch")
        self.values, self.norm_pix = pixels, norm_pix

    def __call__(self, patches_BNP: jax.Array, known_BNP: jax.Array | None = None) -> jax.Array:
        """(B, any, P) standardised true patches to what is to be predicted of them.

        Args:
          known_BNP: which values have data; all of them by default. Only these are told of.
        """
        if not self.norm_pix:
            return patches_BNP
        mean, deviation = patches.moments(patches_BNP, known_BNP)
        return (patches_BNP - mean) / deviation

    def errors(self, pred: jax.Array, true: jax.Array) -> jax.Array:
        """How far off predictions (B, any, values) are, (B, any, any); the loss is its mean."""
        return jnp.square(pred - true)

    def picture(
        self, pred: jax.Array, patches_BNP: jax.Array, known_BNP: jax.Array | None = None
    ) -> jax.Array:
        """Predictions as standardised patches, (B, N, P).

        With norm-pix a patch is predicted only up to its mean and deviation; those of the true
        patch are used.
        """
        if not self.norm_pix:
            return pred
        mean, deviation = patches.moments(patches_BNP, known_BNP)
        return pred * deviation + mean


class PrincipalComponents(Target):
    """The patch's largest PCA coefficients (paper, table 1d), not whitened.

    The principal directions are those of the training patches, normalised first with norm-pix.
    They are measured once, when training starts (`train.measured_tables`).
    """

    separable = False

    def __init__(self, pixels: int, *, norm_pix: bool, size: int | None = None):
        super().__init__(pixels, norm_pix=norm_pix)
        self.values = COMPONENTS if size is None else size
        if not 1 <= self.values <= pixels:
            raise ValueError(
                f"target_size {self.values} must be at most the {pixels} values of a patch, "
                "which has no more principal components"
            )
        self.mean = FixedTable(jnp.zeros((pixels,)))
        self.components = FixedTable(jnp.zeros((self.values, pixels)))  # a direction per row

    def __call__(self, patches_BNP: jax.Array, known_BNP: jax.Array | None = None) -> jax.Array:
        rest_BNP = super().__call__(patches_BNP, known_BNP) - self.mean[...][None, None]
        return jnp.matmul(rest_BNP, self.components[...].T, precision="highest")

    def picture(
        self, pred: jax.Array, patches_BNP: jax.Array, known_BNP: jax.Array | None = None
    ) -> jax.Array:
        rest_BNP = jnp.matmul(pred, self.components[...], precision="highest")
        return super().picture(rest_BNP + self.mean[...][None, None], patches_BNP, known_BNP)


class Told(Target):
    """What comes with the batch, as `codes`, as it is not a function of the patch alone.

    Attributes:
      name: of what is predicted.
      giver: who says it.
    """

    pictured = separable = False
    name: str
    giver: str

    def __call__(self, patches_BNP: jax.Array, known_BNP: jax.Array | None = None) -> jax.Array:
        raise ValueError(f"a model that predicts {self.name} needs codes=, those of {self.giver}")

    def picture(
        self, pred: jax.Array, patches_BNP: jax.Array, known_BNP: jax.Array | None = None
    ) -> jax.Array:
        raise ValueError(f"{self.name} cannot be drawn")


class Tokens(Told):
    """Which of `size` codes a tokenizer gives the patch, by cross-entropy (as BEiT does)."""

    name, giver = "tokens", "a tokenizer"

    def __init__(self, pixels: int, *, norm_pix: bool, size: int | None = None):
        if size is None or size < 2:
            raise ValueError(f"target_size {size} must be how many tokens there are, at least 2")
        self.values = size

    def errors(self, pred: jax.Array, true: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(pred, true)[..., None]


class Features(Told):
    """A teacher's token of the patch, `size` numbers, by the mean square (as MVP does).

    Each number is compared in its own deviations from its own mean over the training images, which
    are measured once, when training starts (`train.measured_tables`). So a model that says the same
    of all patches has a loss of 1, however alike the teacher's tokens are, and no number counts for
    more because it varies more (as in Theia, Shang et al., arXiv:2407.20179). MAE's own tokens have
    most of their length in common.
    """

    name, giver = "features", "a teacher"

    def __init__(self, pixels: int, *, norm_pix: bool, size: int | None = None):
        if size is None or size < 1:
            raise ValueError(f"target_size {size} must be how many numbers a teacher's token has")
        self.values = size
        self.mean = FixedTable(jnp.zeros((size,)))
        self.deviation = FixedTable(jnp.ones((size,)))

    def errors(self, pred: jax.Array, true: jax.Array) -> jax.Array:
        shape = (1,) * (true.ndim - 1) + (-1,)
        mean, deviation = (table[...].reshape(shape) for table in (self.mean, self.deviation))
        return jnp.square(pred - (true - mean) / deviation)


COMPONENTS = 96  # as in the paper's table 1d
TARGETS = {
    "pixels": Target,
    "pca": PrincipalComponents,
    "tokens": Tokens,
    "features": Features,
}


def make(name: str, pixels: int, *, norm_pix: bool, size: int | None) -> Target:
    """A target by its name.

    Raises:
      ValueError: there is none of that name, or it has no such size.
    """
    if name not in TARGETS:
        raise ValueError(f"target {name!r} is unknown; known are {', '.join(TARGETS)}")
    return TARGETS[name](pixels, norm_pix=norm_pix, size=size)
