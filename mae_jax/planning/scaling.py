"""Weak scaling on paper: the same images on every device, and more and more devices."""

import copy
import dataclasses

from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.planning import report, search, topology
from mae_jax.planning.data import Data
from mae_jax.planning.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Scaled:
    """How a device fares on a topology beside one of the first.

    Attributes:
      batch_size: images of a step, as many of them for a device as on the first topology.
      exposed: share of the first topology's images per second and device that is left where no
        collective hides behind computation, there and here.
      hidden: the same where all that can hide does, so that a step takes as long as the longer of
        the two.
    """

    batch_size: int
    exposed: float | None
    hidden: float | None


def run(config, names: list[str], data: Data) -> list[tuple[Estimate, Scaled]]:
    """Plans a config's training for topologies of more and more devices.

    Args:
      config: its batch is that of the first topology.
      names: of topologies, as in v3:8x8.
      data: what an epoch has.

    Raises:
      UsageError: fewer than two topologies, a batch that does not spread evenly over the first, or
        a config that cannot work.
    """
    if len(names) < 2:
        raise UsageError(f"--scaling {','.join(names)!r} must name two topologies at least")
    first = len(topology.devices(names[0]))
    if config.data.batch_size % first:
        raise UsageError(
            f"data.batch_size {config.data.batch_size} is not divisible by the {first} devices of "
            f"{names[0]}, which it is of"
        )
    found = []
    for name in names:
        scaled = copy.deepcopy(config)
        batch = config.data.batch_size // first * len(topology.devices(name))
        scaled.data.batch_size = batch
        say(f"{name}: compiling a step of {batch:,} images")
        found.append((search.compiled(scaled, name, data), batch))
    start = found[0][0]
    return [(e, Scaled(batch, *_shares(start, e))) for e, batch in found]


def _shares(first: Estimate, other: Estimate) -> tuple[float | None, float | None]:
    if not (first.fits and other.fits):
        return None, None

    def seconds(e):
        computing, waiting = e.step_seconds, e.collective_seconds
        return computing + waiting, max(computing, waiting)

    exposed, hidden = (a / b for a, b in zip(seconds(first), seconds(other), strict=True))
    return exposed, hidden


_COLUMNS = (
    ("topology", lambda e, s: e.topology),
    ("devices", lambda e, s: f"{e.devices:,}"),
    ("images a step", lambda e, s: f"{s.batch_size:,}"),
    ("ms a step", lambda e, s: report.number(e.step_seconds, 1e3, ".1f")),
    ("collectives, ms", lambda e, s: report.number(e.collective_seconds, 1e3, ".1f")),
    ("kept, none hidden", lambda e, s: report.number(s.exposed, 100, ".0f", " %")),
    ("kept, all hidden", lambda e, s: report.number(s.hidden, 100, ".0f", " %")),
)


def table(found: list[tuple[Estimate, Scaled]]) -> str:
    """A line per topology."""
    rows = [[title for title, _ in _COLUMNS]]
    rows += [[cell(*each) for _, cell in _COLUMNS] for each in found]
    return report.aligned(rows)
