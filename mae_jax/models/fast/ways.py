"""The ways to compute attention: the same numbers to rounding, each at its best on some hardware.

A way is a frozen object without arrays. Whoever knows the devices chooses one; a model takes it as
`attention=` and asks two things of it: how to arrange tokens (`arrange`), and attention (`attend`).
"""

import dataclasses
import functools

import jax

from mae_jax.models import attention
from mae_jax.models.fast import grouped_heads, packed
from mae_jax.models.layers import Affine


@dataclasses.dataclass(frozen=True)
class Way:
    """By the formula, for any device. The others inherit where they have nothing better."""

    def arrange(self, x_BND: jax.Array, heads: int) -> tuple[jax.Array, attention.Attend]:
        """Tokens as blocks compute on them fastest, and the attention that fits.

        Returns:
          (B / S, S * N, D), S samples one after the other in a row, which `reshape` undoes; and
          attention that keeps samples of a row apart. It takes no `queries` where S is not 1.
        """
        del heads
        return x_BND, self.attend

    def attend(
        self,
        x_BND: jax.Array,
        qkv: Affine,
        out: Affine,
        heads: int,
        queries: int | None = None,
    ) -> jax.Array:
        """Attention within every row, as `attention.attend`."""
        return attention.attend(x_BND, qkv, out, heads, queries)

    def look(
        self, seen_BKD: jax.Array, x_BQD: jax.Array, qkv: Affine, out: Affine, heads: int
    ) -> jax.Array:
        """Attention to other tokens, as `attention.look`."""
        return attention.look(seen_BKD, x_BQD, qkv, out, heads)


@dataclasses.dataclass(frozen=True)
class Grouped(Way):
    """Heads in groups as wide as a TPU's registers; plain where the width has no such groups.

    Attributes:
      shards: equal parts that a batch is spread over devices in. Samples of a part share rows of
        tokens where these are short. None: unknown, and none share.
    """

    shards: int | None = None

    def arrange(self, x_BND: jax.Array, heads: int) -> tuple[jax.Array, attention.Attend]:
        batch, tokens, width = x_BND.shape
        if self.shards is None or batch % self.shards or not grouped_heads.fits(width, heads):
            return x_BND, self.attend
        samples = grouped_heads.samples_in_a_row(batch // self.shards, tokens)
        rows = x_BND.reshape(batch // samples, samples * tokens, width)
        return rows, functools.partial(self.attend, samples=samples)

    def attend(
        self,
        x_BND: jax.Array,
        qkv: Affine,
        out: Affine,
        heads: int,
        queries: int | None = None,
        samples: int = 1,
    ) -> jax.Array:
        if not grouped_heads.fits(x_BND.shape[-1], heads):
            return super().attend(x_BND, qkv, out, heads, queries)
        return self._look(x_BND, x_BND[:, :queries], qkv, out, heads, samples)

    def look(
        self, seen_BKD: jax.Array, x_BQD: jax.Array, qkv: Affine, out: Affine, heads: int
    ) -> jax.Array:
        if not grouped_heads.fits(x_BQD.shape[-1], heads):
            return super().look(seen_BKD, x_BQD, qkv, out, heads)
        return self._look(seen_BKD, x_BQD, qkv, out, heads, 1)

    def _look(self, seen_BKD, x_BQD, qkv, out, heads, samples):
        to_q, to_k, to_v = attention.kinds(qkv)
        q = grouped_heads.split(x_BQD, *to_q) * attention.scale(x_BQD, heads)
        k, v = (grouped_heads.split(seen_BKD, *to) for to in (to_k, to_v))
        size = x_BQD.shape[-1] // heads
        return grouped_heads.join(grouped_heads.attend(q, k, v, size, samples), *out)


@dataclasses.dataclass(frozen=True)
class Packed(Way):
    """In few products and few passes over memory, for a single CPU."""

    def attend(
        self,
        x_BND: jax.Array,
        qkv: Affine,
        out: Affine,
        heads: int,
        queries: int | None = None,
    ) -> jax.Array:
        q, k, v = packed.project(x_BND, *qkv, queries)
        q *= attention.scale(x_BND, heads)
        q, k, v = (attention.split_heads(x, heads) for x in (q, k, v))
        return out(attention.join_heads(packed.attend(q, k, v)))


@dataclasses.dataclass(frozen=True)
class Fused(Way):
    """Scores, softmax and sums in one kernel that stores no scores, where numbers have 16 bits.

    Attributes:
      kernel: as of `jax.nn.dot_product_attention`: "cudnn", for NVIDIA's GPUs.
    """

    kernel: str = "cudnn"

    def attend(
        self,
        x_BND: jax.Array,
        qkv: Affine,
        out: Affine,
        heads: int,
        queries: int | None = None,
    ) -> jax.Array:
        return self.look(x_BND, x_BND[:, :queries], qkv, out, heads)

    def look(
        self, seen_BKD: jax.Array, x_BQD: jax.Array, qkv: Affine, out: Affine, heads: int
    ) -> jax.Array:
        if x_BQD.dtype.itemsize != 2:
            return super().look(seen_BKD, x_BQD, qkv, out, heads)
        to_q, to_k, to_v = attention.kinds(qkv)
        q, k, v = (
            x.reshape(*x.shape[:2], heads, -1)
            for x in (to_q(x_BQD), to_k(seen_BKD), to_v(seen_BKD))
        )
        mixed = jax.nn.dot_product_attention(q, k, v, implementation=self.kernel)
        return out(mixed.reshape(x_BQD.shape))


PLAIN = Way()
WAYS = {"plain": PLAIN, "grouped": Grouped(), "packed": Packed(), "cudnn": Fused()}


def named(way: str | Way) -> Way:
    """A way by its name, or itself.

    Raises:
      ValueError: no way has that name.
    """
    if isinstance(way, Way):
        return way
    if way not in WAYS:
        raise ValueError(f"attention {way!r} is unknown; known are {', '.join(WAYS)}")
    return WAYS[way]


def choose(name: str, platform: str, devices: int, shards: int) -> Way:
    """The way for some devices.

    Args:
      name: of a way, or auto: what suits the devices.
      platform: of the devices: cpu, gpu or tpu.
      devices: how many.
      shards: equal parts that a batch is spread over them in.
    """
    if name == "auto":
        # Packing would mix what tensor parallelism splits over several.
        on_cpu = "packed" if devices == 1 else "plain"
        # On GPUs plain, until another was measured to be faster.
        name = {"cpu": on_cpu, "tpu": "grouped"}.get(platform, "plain")
    if name == "cudnn" and platform != "gpu":  # what was trained on one is read anywhere
        return PLAIN
    return Grouped(shards) if name == "grouped" else named(name)
