"""One mesh, and one table of what lies on it how.

The mesh has three axes. The batch is spread over `data` and `fsdp`. Parameters and the optimizer's
state are split over `fsdp`, and the matrices of a block over `tensor` too. With ZeRO-1 the
optimizer's state is split over `data` as well, while the parameters are not. Every mode is one
choice of those four, a `Split`:

  data parallel     fsdp 1, tensor 1
  ZeRO-1            the same, with zero
  FSDP              fsdp > 1
  tensor parallel   tensor > 1
  mixtures          any of them together

A dimension that does not divide by the devices of an axis is whole on that axis.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mae_jax.errors import UsageError

AXES = ("data", "fsdp", "tensor")
_BATCH = ("data", "fsdp")

# The first pattern found in a parameter's path decides; one entry per dimension. A block's first
# matrices are split by columns and its second by rows, so that heads and hidden units stay on
# their device and one sum over devices ends each half. `fsdp` goes on the first dimension
# of a matrix that is left.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"blocks/\d+/attn/qkv/kernel$", (None, "fsdp", "tensor")),
    (r"blocks/\d+/attn/qkv/bias$", (None, "tensor")),
    (r"blocks/\d+/mlp/fc1/kernel$", ("fsdp", "tensor")),
    (r"blocks/\d+/mlp/fc1/bias$", ("tensor",)),
    (r"blocks/\d+/(attn/proj|mlp/fc2)/kernel$", ("tensor", "fsdp")),
    (r"patch_embed/kernel$", (None, None, None, "fsdp")),
    (r"(embed|pred|head)/kernel$", ("fsdp",)),
    (r"", ()),  # biases, norms, tokens, tables, counters: small, so whole everywhere
)

# From here on the time saved on Adam's moments is worth the smaller messages.
_ZERO_FROM = 256 * 2**20
# What parameters, gradient and optimizer may take of a device; the rest is for activations.
_STATE_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Split:
    """How many devices lie along each axis, and whether ZeRO-1 is on."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    zero: bool = False

    @property
    def batch_shards(self) -> int:
        """Parts that a batch is split into."""
        return self.data * self.fsdp

    def __str__(self) -> str:
        mesh = f"data {self.data} x fsdp {self.fsdp} x tensor {self.tensor}"
        return mesh + (", optimizer split over data too" if self.zero else "")


def choose(
    section,
    devices: int,
    state_bytes: Callable[[], tuple[int, int]],
    memory: int | None = None,
) -> Split:
    """What the config section `parallel` says, and a default for what it leaves open.

    Args:
      section: `fsdp`, `tensor` and `zero`; None leaves `fsdp` or `zero` open.
      devices: how many, over all hosts.
      state_bytes: gives the bytes of all parameters and of the optimizer's state; asked only if
        the answer depends on them.
      memory: bytes of one device; None if unknown, then the state is taken to fit.

    Raises:
      UsageError: the numbers do not divide the devices.
    """
    fsdp, tensor, zero = section.fsdp, section.tensor, section.zero
    taken = tensor * (fsdp or 1)
    if devices % taken:
        product = f"parallel.tensor {tensor}"
        if fsdp is not None:
            product = f"parallel.fsdp {fsdp} times " + product
        raise UsageError(
            f"{product} is {taken}, which does not divide the {devices} devices; "
            f"it must be one of {', '.join(map(str, _divisors(devices)))}"
        )
    rest = devices // tensor
    if rest == 1:
        return Split(1, 1, tensor, False)
    if fsdp is not None and zero is not None:
        return Split(rest // fsdp, fsdp, tensor, zero)
    params, optimizer = (size / tensor for size in state_bytes())
    if zero is None:
        zero = optimizer * tensor >= _ZERO_FROM
    if fsdp is None:
        fsdp = rest
        for candidate in _divisors(rest):
            # Parameters, and a gradient of the same size until it is reduced.
            needed = 2 * params / candidate + optimizer / (rest if zero else candidate)
            if memory is None or needed <= _STATE_SHARE * memory:
                fsdp = candidate
                break
    data = rest // fsdp
    return Split(data, fsdp, tensor, zero and data > 1)


def check_heads(tensor: int, heads: dict[str, int]) -> None:
    """Raises UsageError unless every stack of blocks, by config key, has heads for `tensor`."""
    for name, count in heads.items():
        if count % tensor:
            raise UsageError(
                f"parallel.tensor {tensor} does not divide {name} {count}; blocks are split by "
                f"whole heads, so it must be one of {', '.join(map(str, _divisors(count)))}"
            )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def device_memory() -> int | None:
    """Bytes of memory of a device of this process, or None where it does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit")


def make_mesh(split: Split, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the devices of all hosts, or of given ones, which need not be attached."""
    devices = list(jax.devices() if devices is None else devices)
    shape = (split.data, split.fsdp, split.tensor)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if devices[0].platform == "tpu" and slices > 1 and split.data % slices == 0:
        # Between slices the network is slow: only the sum of gradients goes over it.
        grid = mesh_utils.create_hybrid_device_mesh(
            (split.data // slices, split.fsdp, split.tensor),
            (slices, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    else:
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything lies. Hashable, so that it can be part of what a step is compiled for.

    Attributes:
      mesh: with the three axes.
      zero: whether the optimizer's state is split over `data` too.
    """

    mesh: Mesh
    zero: bool = False

    @classmethod
    def of(cls, split: Split, devices: Sequence[Any] | None = None) -> "Layout":
        """The layout of a split, over all devices or given ones."""
        return cls(make_mesh(split, devices), split.zero)

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def per_sample(self) -> NamedSharding:
        """The first axis, samples, spread over devices; the same on those along `tensor`."""
        return NamedSharding(self.mesh, PartitionSpec(_BATCH))

    def state(self, tree):
        """Shardings of a `TrainState`, or of any part of it that has the same paths."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self._sharding(_name(path), x.shape, "opt_state" in _name(path)), tree
        )

    def optimizer(self, params):
        """Shardings of a tree like the parameters that the optimizer works on."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self._sharding(_name(path), x.shape, True), params
        )

    def _sharding(self, name: str, shape: tuple[int, ...], optimizer: bool) -> NamedSharding:
        axes = next(axes for pattern, axes in RULES if re.search(pattern, name))
        dims = [self._fitting(*pair, optimizer) for pair in zip(axes, shape, strict=False)]
        while dims and dims[-1] is None:
            dims.pop()
        return NamedSharding(self.mesh, PartitionSpec(*dims))

    def _fitting(self, axis: str | None, size: int, optimizer: bool):
        """The mesh axes that a dimension is split over, the largest choice that divides it."""
        if axis is None:
            return None
        both = optimizer and self.zero and axis == "fsdp"
        for choice in ([("data", "fsdp")] if both else []) + [(axis,)]:
            used = tuple(name for name in choice if self.mesh.shape[name] > 1)
            if used and size % math.prod(self.mesh.shape[name] for name in used) == 0:
                return used if len(used) > 1 else used[0]
        return None

    def rows(self, batch_size: int) -> np.ndarray:
        """The places in a batch, in ascending order, whose samples this process must provide."""
        placed = self.per_sample.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[index] for index in placed]))

    def put_batch(self, batch: dict[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
        """Starts the transfer of this process's rows of a batch and returns at once.

        Args:
          batch: arrays whose first axis is either `rows(batch_size)` or the whole batch.
          batch_size: over all processes.
        """
        return {
            name: jax.make_array_from_process_local_data(
                self.per_sample, values, (batch_size, *values.shape[1:])
            )
            for name, values in batch.items()
        }


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def table(state, shardings) -> str:
    """What is sharded how, with bytes per device: one line for all that are alike.

    Args:
      state: arrays, or their shapes, as in a `TrainState`.
      shardings: the tree of shardings that belongs to it.
    """
    alike: dict[tuple, int] = {}
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, x), sharding in zip(leaves, jax.tree.leaves(shardings), strict=True):
        name = re.sub(r"(blocks)/\d+", r"\1/*", _name(path))
        spec = " ".join("-" if s is None else "+".join(_as_tuple(s)) for s in sharding.spec)
        local = math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
        row = (name, str(tuple(x.shape)), spec or "whole", x.size * x.dtype.itemsize, local)
        alike[row] = alike.get(row, 0) + 1
    lines = [("", "what", "shape", "split over", "MiB", "MiB per device")]
    sums: dict[str, list[int]] = {}
    for (name, shape, spec, whole, local), count in alike.items():
        times = f"{count} x" if count > 1 else ""
        lines.append((times, name, shape, spec, _mib(count * whole), _mib(count * local)))
        total = sums.setdefault(name.split("/")[0], [0, 0])
        total[0] += count * whole
        total[1] += count * local
    sums["all"] = [sum(column) for column in zip(*sums.values(), strict=True)]
    for name, (whole, local) in sums.items():
        lines.append(("", f"{name} in all", "", "", _mib(whole), _mib(local)))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in (0, 4, 5) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def bytes_per_device(state, shardings) -> int:
    """What one device holds of a state."""
    return sum(
        math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True)
    )


def _as_tuple(entry) -> tuple[str, ...]:
    return entry if isinstance(entry, tuple) else (entry,)


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f}"
