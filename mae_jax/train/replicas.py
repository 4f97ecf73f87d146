"""Whether devices that must hold the same bits do: what a chip that computes wrongly breaks."""

import functools
import socket
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mae_jax import hosts
from mae_jax.errors import Corrupted
from mae_jax.parallel import Layout
from mae_jax.train.state import TrainState

_NAMED = 8  # of the devices that agree, in a message


class Replicas:
    """Compares the copies of a run's state over devices, and names the device that has another.

    What lies on several devices is equal there bit for bit, on CPUs as on TPUs: all start from the
    same bits, and all run one program on them. What differs between devices, their part of the
    batch, enters only through sums over devices, and of such a sum every device gets a copy of the
    same result, each part of which was added up in one place and in one order. So a difference is
    no rounding: some device, or memory, or link gave something else for the same work. On GPUs that
    holds while XLA is not asked for sums in an order that changes from call to call.

    Bits are compared, not values: NaN equals the same NaN, and -0.0 is not 0.0. What lies on one
    device only, as most of a state that is split over all of them, cannot be compared.

    Args:
      every: steps between comparisons; a state that is saved is compared too. None compares never.
      layout: of the state.
      template: the state, or its shapes.
      manager: of the run's checkpoints.
      tell: gets a line for the user where there is nothing to compare.
    """

    def __init__(
        self,
        every: int | None,
        layout: Layout,
        template: TrainState,
        manager,
        tell: Callable[[str], None],
    ):
        self._every, self._layout, self._manager = every, layout, manager
        if every is None:
            return
        self._devices = list(layout.mesh.devices.flat)
        self._hosts = hosts.exchange(socket.gethostname())
        leaves = jax.tree_util.tree_leaves_with_path(template)
        shardings = jax.tree.leaves(layout.state(template))
        self._names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in leaves]
        pairs = zip(leaves, shardings, strict=True)
        first = [_first_with(sharding, x.shape) for (_, x), sharding in pairs]
        # (devices, leaves): which device, by its place, is the first with the same part of a leaf.
        self._first = np.stack(first, axis=1)
        if (self._first == np.arange(len(self._devices))[:, None]).all():
            self._every = None
            tell("train.check_replicas_every: no device holds what another one holds too")

    def due(self, step: int) -> bool:
        """Whether a step's state is to be compared, even if it is not saved."""
        return self._every is not None and step % self._every == 0

    def check(self, step: int, current: TrainState, saved: bool = False) -> None:
        """Raises Corrupted, in all processes, if copies in a state differ that is due or saved."""
        if not self.due(step) and (self._every is None or not saved):
            return
        sums = np.asarray(checksums(current, self._layout))
        other = sums != np.take_along_axis(sums, self._first, axis=0)
        if not other.any():
            return
        broken = np.flatnonzero(other.any(axis=0))
        latest = self._manager.latest_step()
        raise Corrupted(
            f"step {step}: copies of the state that must be equal bit for bit are not: "
            f"{self._told(sums, other, broken)}. Nothing of this state was saved; "
            + ("there is no checkpoint yet" if latest is None else f"checkpoint {latest} is older")
            + "; test that machine, or leave it out, before the same command resumes"
        )

    def _told(self, sums, other, broken) -> str:
        """Who has another copy of what."""
        leaf = broken[0]
        part = self._first[np.flatnonzero(other[:, leaf])[0], leaf]
        held = np.flatnonzero(self._first[:, leaf] == part)
        values, camp = np.unique(sums[held, leaf], return_inverse=True)
        camps = sorted((held[camp == i] for i in range(len(values))), key=len)
        what = self._names[leaf]
        if len(broken) > 1:
            what += f" (and {len(broken) - 1} more arrays)"
        if 2 * len(camps[-1]) > len(held):
            wrong = ", ".join(self._name(i) for camp in camps[:-1] for i in camp)
            rest = ", ".join(str(self._devices[i].id) for i in camps[-1][:_NAMED])
            more = f" and {len(camps[-1]) - _NAMED} more" if len(camps[-1]) > _NAMED else ""
            return f"{what} is another on {wrong} than on devices {rest}{more}, which agree"
        sides = " and ".join(", ".join(self._name(i) for i in camp) for camp in camps)
        return f"{what} differs between {sides}, of which none has most on its side"

    def _name(self, place) -> str:
        device = self._devices[place]
        process = device.process_index
        return f"device {device.id} (process {process} on {self._hosts[process]})"


def _first_with(sharding, shape) -> np.ndarray:
    """(devices,): for every device, by its place in the mesh, the first with the same part."""
    parts = sharding.devices_indices_map(shape)
    seen: dict[str, int] = {}
    return np.array(
        [seen.setdefault(str(parts[d]), i) for i, d in enumerate(sharding.mesh.devices.flat)]
    )


@functools.partial(jax.jit, static_argnames="layout")
def checksums(state: TrainState, layout: Layout) -> jax.Array:
    """What each device holds of each array of a state, as one number.

    Returns:
      (devices, arrays) uint32, devices in the order of the mesh; on every device.
    """

    def of_one_device(state):
        return jnp.stack([_checksum(x) for x in jax.tree.leaves(state)])[None]

    sums = jax.shard_map(
        of_one_device,
        mesh=layout.mesh,
        in_specs=(jax.tree.map(lambda sharding: sharding.spec, layout.state(state)),),
        out_specs=PartitionSpec(layout.mesh.axis_names),
        check_vma=False,  # that copies are equal is not to be taken for granted here
    )(state)
    return jax.lax.with_sharding_constraint(sums, layout.replicated)


def _checksum(x):
    """Of bits and their places, uint32: one other number changes it always, several but by chance.

    A plain sum or xor would not see the same bit flipped in two numbers.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    # The last steps of MurmurHash3, which spread every bit over all.
    mixed = bits.astype(jnp.uint32) ^ (place * np.uint32(0x9E3779B9))
    mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> 16)).sum(dtype=jnp.uint32)
