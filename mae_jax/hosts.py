"""Several processes as one run: how they find each other, and what they agree on."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from mae_jax import leaving
from mae_jax.errors import HostMissing, UsageError

T = TypeVar("T")

# How MPI tells a process how many there are: Open MPI; MPICH, Intel MPI and their kin.
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
# Where what JAX keeps of clusters has moved: its own search decides, while it connects.
_UNKNOWN = "as JAX finds them"
# Seconds without a sign of life after which JAX ends the processes of a run, whatever they do.
_SILENT = 30


def initialise(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: int = 300,
) -> str:
    """Joins the other processes of the run, before anything else asks for a device.

    With no arguments the cluster is found as JAX finds it: TPU pods, GKE, SLURM, Open MPI 4,
    Kubernetes, any other MPI through mpi4py; and where there is none, the process is alone.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are; 1 alone turns detection off.
      process: which of them this is, from 0.
      timeout: seconds to wait for the others. If one is still missing then, the process says so
        and ends with the exit code of `HostMissing`.

    Returns:
      What connects the processes, in words.

    Raises:
      UsageError: arguments that do not fit together, or a cluster that JAX cannot read.
    """
    given = (coordinator, processes, process)
    if timeout < 1:
        raise UsageError(f"--init_timeout {timeout} must be at least 1 second")
    if processes == 1 and coordinator is None and process in (None, 0):
        return "one process"
    if given == (None, None, None):
        name = _detected()
        if name is None:
            return "one process"
        # JAX asks mpi4py only where it is named.
        method = name if name == "mpi4py" else None
    else:
        name, method = "given by flags", "deactivate"
        _check(*given)
    if jax.distributed.is_initialized():
        return name
    print(f"waiting at most {timeout} s for the other processes", file=sys.stderr, flush=True)
    _keep_stdout()
    with _limit(timeout, *given):
        try:
            # JAX's own limit ends the process with a stack trace: ours has to come first.
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=timeout + 60,
                heartbeat_timeout_seconds=_SILENT,
                shutdown_timeout_seconds=timeout,
                cluster_detection_method=method,
            )
        except (ValueError, RuntimeError, KeyError, OSError, ImportError) as error:
            if name == _UNKNOWN and "coordinator_address" in str(error):
                return "one process"  # there is nobody else
            reason = " ".join(str(error).split())
            raise UsageError(
                f"the processes of the run ({name}) could not be connected: {reason}; give "
                "--coordinator, --num_processes and --process_id, or --num_processes=1 to run alone"
            ) from error
    # JAX now swallows SIGTERM, for a notice of preemption that is not asked for here: until the
    # loop listens there is nothing to save, and the signal ends the process as everywhere.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    leaving.listen()
    return name


def _keep_stdout() -> None:
    """Leaves stdout to what Python prints: the C++ that connects CPUs writes lines to it too."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def _check(coordinator, processes, process):
    missing = [
        flag
        for flag, value in (
            ("--coordinator", coordinator),
            ("--num_processes", processes),
            ("--process_id", process),
        )
        if value is None
    ]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be given too: --coordinator, --num_processes and "
            "--process_id belong together"
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UsageError(f"--coordinator {coordinator!r} must be HOST:PORT of process 0")
    if processes < 1 or not 0 <= process < processes:
        raise UsageError(
            f"--process_id {process} must be from 0 to {processes - 1}, one less than "
            f"--num_processes {processes}"
        )


def _detected() -> str | None:
    """The kind of cluster that there is to connect to, `_UNKNOWN` if JAX does not say, or None."""
    unknown = None
    try:
        from jax._src.clusters import ClusterEnv  # nothing public tells without connecting

        for kind in ClusterEnv._cluster_types:
            if not kind.opt_in_only_method and kind.is_env_present():
                return kind.name or kind.__name__
    except (ImportError, AttributeError):
        unknown = _UNKNOWN
    for name in _MPI_SIZES:
        size = os.environ.get(name, "1")
        if size == "1":
            continue
        if importlib.util.find_spec("mpi4py") is not None:
            return "mpi4py"
        raise UsageError(
            f"{name} says that this is one of {size} processes that MPI started, and JAX finds the "
            "others only through mpi4py; install it, or give --coordinator, --num_processes and "
            "--process_id, or --num_processes=1 to run alone"
        )
    return unknown


@contextlib.contextmanager
def _limit(seconds, coordinator, processes, process) -> Iterator[None]:
    """Ends the process with one sentence unless the block is done in time.

    An exception cannot: the block waits in C++, which answers to nothing but its own limit.
    """

    def end():
        who = "" if process is None else f" process {process} of {processes} at {coordinator}"
        print(
            f"mae-jax: after {seconds} s{who or ' this process'} still waits for the others: "
            f"{_reason(coordinator, process)}. --init_timeout sets the limit",
            file=sys.stderr,
            flush=True,
        )
        os._exit(HostMissing.exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reason(coordinator, process) -> str:
    proxies = sorted(name for name in os.environ if name.lower().endswith("_proxy"))
    hint = f"; unset {', '.join(proxies)} if it does not lead there" if proxies else ""
    if process == 0:
        return "not all of them came; start the missing ones, or correct --num_processes"
    if coordinator is None:
        return f"one did not come, or process 0 cannot be reached{hint}"
    host, port = coordinator.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), 2).close()
    except OSError as error:
        return f"process 0 does not answer there ({error}){hint}"
    return f"process 0 answers, but not all of the others came; start the missing ones{hint}"


def is_first() -> bool:
    """Whether this is the process that writes metrics, panels and progress."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def describe(cluster: str) -> str:
    """This process and its devices, on one line."""
    local, devices = jax.local_device_count(), jax.devices()
    share = f"{local} of {len(devices)}" if several() else f"{local}"
    return (
        f"process {jax.process_index()} of {jax.process_count()} ({cluster}), "
        f"{share} {devices[0].device_kind} devices"
    )


@contextlib.contextmanager
def together() -> Iterator[None]:
    """If a user's mistake shows in one process only, all of them raise it, and none waits."""
    error = None
    try:
        yield
    except UsageError as found:
        error = found
    for process, message in enumerate(exchange(str(error) if error else "")):
        if message and error is None:
            error = UsageError(f"process {process}: {message}")
    if error is not None:
        raise error


def in_turn(make: Callable[[], T]) -> T:
    """What `make` gives, made by process 0 before the others: it may leave files that they use."""
    made: list[T] = []
    for first in (True, False):
        with together():
            if is_first() == first:
                made.append(make())
    return made[0]


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` gives in process 0, which JSON must hold; known to all, and made there alone."""
    with together():
        made = make() if is_first() else None
    return made if not several() else json.loads(exchange(json.dumps(made))[0])


def any_of(here: bool) -> bool:
    """Whether it is so in any process."""
    return any(exchange("yes" if here else ""))


def check_same(what: dict[str, Any]) -> None:
    """Raises UsageError, in all processes, unless each gives the same; `what` must fit in JSON."""
    first, *others = (json.loads(text) for text in exchange(json.dumps(what)))
    for process, other in enumerate(others, 1):
        for name in first.keys() | other.keys():
            if first.get(name) != other.get(name):
                raise UsageError(
                    f"all processes of a run must be started alike, but {name} is "
                    f"{first.get(name)!r} in process 0 and {other.get(name)!r} in {process}"
                )


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if several():
        multihost_utils.sync_global_devices(name)


def of_first(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of process 0, in all processes; the others give some of the same shapes."""
    if not several():
        return arrays
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(arrays))


def exchange(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    if not several():
        return [text]
    encoded = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(encoded)])).reshape(-1)
    if not lengths.any():
        return [""] * len(lengths)
    sent = np.zeros(lengths.max(), np.uint8)
    sent[: len(encoded)] = encoded
    rows = multihost_utils.process_allgather(sent)
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True)]


class Ballot:
    """What any process wants, known to all at the same step: to stop, or that something is due.

    A signal reaches one process at a time of its own; if it left the loop there, the others would
    wait for it for ever. So votes are cast with every step and counted one step later, when they
    have long arrived: that costs no waiting, and unlike JAX's own notice of preemption it forgets
    no signal that came while a run was starting.
    """

    def __init__(self, mesh):
        self._mesh = mesh
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._count = jax.jit(
            lambda votes: votes.any(0), out_shardings=NamedSharding(mesh, PartitionSpec())
        )
        self._cast: jax.Array | None = None

    def cast(self, *wishes: bool) -> tuple[bool, ...]:
        """Casts this process's votes, and counts those before; alone, counts them at once."""
        if not several():
            return wishes
        before = self._cast
        votes = jax.make_array_from_callback(
            (self._mesh.size, len(wishes)),
            self._sharding,
            lambda index: np.tile(np.array(wishes), (_length(index), 1)),
        )
        self._cast = self._count(votes)
        if before is None:
            return (False,) * len(wishes)
        return tuple(map(bool, np.asarray(before)))


def _length(index) -> int:
    return index[0].stop - (index[0].start or 0)
