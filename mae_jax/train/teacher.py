"""A frozen encoder from whose tokens another model learns."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.errors import UsageError
from mae_jax.models.encoder import Encoder
from mae_jax.models.fast import ways
from mae_jax.models.keys import Keys
from mae_jax.models.sizes import Dimensions
from mae_jax.parallel import Layout
from mae_jax.pixels import Pixels
from mae_jax.train import working

# What its tokens are called in a batch.
PATCHES, CLASS = "taught", "taught_class"
NAMES = (PATCHES, CLASS)
NOT_HERE = (
    "what predicts the tokens of a teacher needs it, train.teacher, which `mae-jax pretrain` and "
    "`mae-jax sweep` alone read"
)


class Frozen(nnx.Module):
    """An encoder under the name it has in a whole model, so that it lies on a mesh as theirs do."""

    def __init__(self, teacher: "Teacher", attention: ways.Way):
        self.encoder = Encoder(
            teacher.dimensions,
            **dict(teacher.arguments),
            attention=attention,
            rngs=Keys(0),
        )


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a step must know of a teacher; its arrays are not here.

    Attributes:
      dimensions: of its encoder, for images that it cuts into as many patches as the student does.
      arguments: further ones of the encoder, as sorted pairs.
      pixels: what it is given.
      class_token: whether its class token is learned from, too.
    """

    dimensions: Dimensions
    arguments: tuple[tuple[str, Any], ...]
    pixels: Pixels
    class_token: bool

    @property
    def width(self) -> int:
        """How many numbers each of its tokens has."""
        return self.dimensions.width

    def abstract(self, attention: ways.Way = ways.PLAIN) -> Frozen:
        """Its model, with shapes in the place of arrays."""
        return nnx.eval_shape(lambda: Frozen(self, attention))

    def tokens(self, encoder: Encoder, images: jax.Array) -> dict[str, jax.Array]:
        """What it makes of images.

        Args:
          images: (B, *spatial, C), as they travel to the student; they are resized to the
            teacher's patches where these are of another size, and grey ones are seen as colour
            where it sees colour.

        Returns:
          PATCHES (B, N, D) and, if it is learned from, CLASS (B, D), float32.
        """
        d = self.dimensions
        if images.shape[-1] == 1:
            images = jnp.broadcast_to(images, (*images.shape[:-1], d.channels))
        standard = self.pixels.standardise(images)
        if standard.shape[1:-1] != d.image_size:
            shape = (len(images), *d.image_size, d.channels)
            standard = jax.image.resize(standard, shape, "cubic")
        x_BND = encoder(standard).astype(jnp.float32)
        found = {PATCHES: x_BND[:, encoder.tokens :]}
        if self.class_token:
            found[CLASS] = encoder.class_features(x_BND)
        return found


class Read(NamedTuple):
    """A teacher with its arrays, as a source has them.

    Attributes:
      teacher: what a step must know of it.
      source: where it is from.
      params: a tree of NumPy arrays, as `Frozen` has them.
      sha256: of them all.
    """

    teacher: Teacher
    source: str
    params: dict[str, Any]
    sha256: str

    def described(self) -> str:
        """What teaches, in one line."""
        d, count = self.teacher.dimensions, sum(x.size for x in jax.tree.leaves(self.params))
        size = " x ".join(map(str, d.image_size))
        return (
            f"teacher: {self.source}, {count / 1e6:.3g} M parameters, {d.depth} blocks, {d.width} "
            f"wide; it sees images of {size} in {d.patches} patches"
        )


def place(read: Read, attention: str, layout: Layout) -> dict[str, Any]:
    """A teacher's arrays on a mesh, in the parts that a student's would lie in.

    Kernels are kept in what products take, which on accelerators is half of their bytes.

    Raises:
      UsageError: some of its numbers are not finite.
    """
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(read.params)):
        raise UsageError(f"train.teacher {read.source!r} has weights that are not finite numbers")
    dtypes = working.kernel_dtypes(_model(read.teacher, attention, layout))

    def put(path, x, sharding):
        x = x.astype(dtypes.get(tuple(entry.key for entry in path), x.dtype))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree_util.tree_map_with_path(put, read.params, layout.state(read.params))


def ready(teacher: Teacher, attention: str, params: Any, layout: Layout) -> Encoder:
    """The encoder on arrays as `place` gives them, to be called within a step."""
    model = _model(teacher, attention, layout)
    params = working.gathered(params, working.kernel_dtypes(model), layout)
    return nnx.merge(nnx.graphdef(model), params).encoder


def _model(teacher, attention, layout):
    devices, shards = layout.mesh.size, layout.batch_shards
    return teacher.abstract(ways.choose(attention, layout.platform, devices, shards))
