"""Weak scaling as a plot, where matplotlib is installed."""

from collections.abc import Sequence
from pathlib import Path

from mae_jax.errors import UsageError
from mae_jax.visualize import curves


def draw(
    devices: Sequence[int], shares: dict[str, Sequence[float | None]], path: str | Path
) -> Path:
    """A line for each kind of share over the number of devices.

    Raises:
      UsageError: matplotlib is missing, or the file cannot be written.
    """
    if not curves.available():
        raise UsageError("a plot needs matplotlib; `pip install 'mae_jax[plots]'` brings it")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained", dpi=150)
    axes = figure.subplots()
    for name, values in shares.items():
        heights = [float("nan") if value is None else 100 * value for value in values]
        axes.plot(devices, heights, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(devices, [f"{count:,}" for count in devices])
    axes.set_ylim(0, 105)
    axes.set_xlabel("devices")
    axes.set_ylabel("images per second and device, % of the first")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {str(path)!r} cannot be written: {error}") from None
    return Path(path)
