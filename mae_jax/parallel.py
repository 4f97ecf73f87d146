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

_BOTH = ("tensor", "fsdp")
# The first pattern found in a parameter's path decides; one entry per dimension. A block's first
# matrices are split over `tensor` by columns and its second by rows, so that heads and hidden units
# stay on their device and one sum over devices ends each half. `fsdp` goes where the TPU's compiler
# can join the parts without turning them: products there read the projections of attention and fc2
# with their columns outermost in memory, proj and fc1 with their rows.
RULES: tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...] = (
    (r"blocks/\d+/attn/qkv/kernel$", (None, None, _BOTH)),
    (r"blocks/\d+/attn/qkv/bias$", (None, "tensor")),
    (r"blocks/\d+/attn/proj/kernel$", (_BOTH,)),
    (r"blocks/\d+/mlp/fc1/kernel$", ("fsdp", "tensor")),
    (r"blocks/\d+/mlp/fc1/bias$", ("tensor",)),
    (r"blocks/\d+/mlp/fc2/kernel$", ("tensor", "fsdp")),
    (r"patch_embed/kernel$", (None, None, None, "fsdp")),
    (r"(embed|pred|head)/kernel$", ("fsdp",)),
    (r"", ()),  # biases, norms, tokens, tables, counters: small, so whole everywhere
)

# From here on the time saved on Adam's moments is worth the smaller messages.
_SPLIT_FROM = 256 * 2**20
# TPUs move 8 rows at a time: parts of the kernels of all standard sizes are multiples of that up to
# the first number of parts; up to the second where the model's widths have such parts.
_PARTS, _MOST_PARTS, _ROWS = 32, 64, 8
# Devices that one machine may have.
_HOST = 8


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


def slices_of(devices: Sequence[Any] | None = None) -> int:
    """How many TPU slices, which the data centre's network joins, devices or all devices are of."""
    devices = jax.devices() if devices is None else devices
    return len({getattr(d, "slice_index", 0) for d in devices if d.platform == "tpu"}) or 1


def choose(
    section,
    devices: int,
    widths: Sequence[int],
    optimizer_bytes: Callable[[], int],
    slices: int = 1,
) -> Split:
    """What the config section `parallel` says, and a default for what it leaves open.

    Small states are whole on every device. Others are split over most devices and gathered once a
    step, in the precision of the products: half the traffic of ZeRO-1, and no device converts,
    holds or updates all of it. Not over all devices of several hosts, because then TPUs
    gather by adding up arrays of zeros; nor over several slices, between which the network is slow.

    Args:
      section: `fsdp`, `tensor` and `zero`; None leaves `fsdp` open.
      devices: how many, over all hosts.
      widths: of the model's stacks of blocks.
      optimizer_bytes: gives the bytes of the optimizer's state; asked only if the answer depends
        on it.
      slices: that the devices are of, as many of each.

    Raises:
      UsageError: the numbers do not divide the devices, or those of a slice.
    """
    fsdp, tensor, zero = section.fsdp, section.tensor, section.zero
    taken, joined = tensor * (fsdp or 1), devices // slices
    if joined % taken:
        product = f"parallel.tensor {tensor}"
        if fsdp is not None:
            product = f"parallel.fsdp {fsdp} times " + product
        where = f"the {joined} devices" + (f" of each of {slices} slices" if slices > 1 else "")
        raise UsageError(
            f"{product} is {taken}, which does not divide {where}; "
            f"it must be one of {', '.join(map(str, _divisors(joined)))}"
        )
    rest = joined // tensor
    if fsdp is None:
        # Who chooses ZeRO-1 wants the parameters whole.
        split = rest > 1 and not zero and optimizer_bytes() >= _SPLIT_FROM
        fsdp = usual_parts(rest, widths) if split else 1
    data = slices * rest // fsdp
    return Split(data, fsdp, tensor, zero and data > 1)


def usual_parts(devices: int, widths: Sequence[int]) -> int:
    """Devices that a state is split over by default, of those that the batch is spread over."""
    whole_rows = {n: all(width % (_ROWS * n) == 0 for width in widths) for n in _divisors(devices)}
    fitting = [n for n, whole in whole_rows.items() if n <= (_MOST_PARTS if whole else _PARTS)]
    return max(n for n in fitting if n < devices or n <= _HOST)


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


def make_mesh(split: Split, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the devices of all hosts, or of given ones, which need not be attached."""
    devices = list(jax.devices() if devices is None else devices)
    shape, slices = (split.data, split.fsdp, split.tensor), slices_of(devices)
    if slices > 1:
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
    def platform(self) -> str:
        """Of the devices: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @property
    def batch_shards(self) -> int:
        """Parts that a batch is split into."""
        return math.prod(self.mesh.shape[axis] for axis in _BATCH)

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

    def whole(self, params):
        """Shardings of a tree like the parameters that every part of the batch is computed with."""

        def keep_tensor(sharding):
            split = (axes is not None and "tensor" in _as_tuple(axes) for axes in sharding.spec)
            dims = ["tensor" if over_tensor else None for over_tensor in split]
            return NamedSharding(self.mesh, _shortest(dims))

        return jax.tree.map(keep_tensor, self.state(params))

    def _sharding(self, name: str, shape: tuple[int, ...], optimizer: bool) -> NamedSharding:
        axes = next(axes for pattern, axes in RULES if re.search(pattern, name))
        dims = [self._fitting(*pair, optimizer) for pair in zip(axes, shape, strict=False)]
        return NamedSharding(self.mesh, _shortest(dims))

    def _fitting(self, axes: str | tuple[str, ...] | None, size: int, optimizer: bool):
        """The mesh axes that a dimension is split over, the first choice that divides it."""
        if axes is None:
            return None
        axes = _as_tuple(axes)
        choices = [axes, axes[:1]]
        if optimizer and self.zero and "fsdp" in axes:
            choices.insert(0, (*axes[:-1], "data", "fsdp"))
        for choice in choices:
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


def _shortest(dims: list) -> PartitionSpec:
    """A spec without what says nothing at its end."""
    while dims and dims[-1] is None:
        dims.pop()
    return PartitionSpec(*dims)


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
