"""Estimates as text."""

from mae_jax.planning.estimate import Estimate

_COLUMNS = (
    ("topology", lambda e: e.topology),
    ("changes", lambda e: " ".join(c.removeprefix("--config.") for c in e.changes)),
    ("devices", lambda e: str(e.devices)),
    ("fits", lambda e: "yes" if e.fits else "no"),
    ("GB of usable", lambda e: f"{e.memory_gb:.1f} of {e.usable_gb:.1f}"),
    ("ms a step", lambda e: number(e.step_seconds, 1e3, ".0f")),
    ("collectives, ms", lambda e: number(e.collective_seconds, 1e3, ".0f")),
    ("share of peak", lambda e: number(e.peak_share, 100, ".0f", " %")),
    ("hours", lambda e: number(e.hours, 1, ".1f")),
    ("images/s a host", lambda e: number(e.images_per_second_per_host, 1, ",.0f")),
)


def readable(estimates: list[Estimate]) -> str:
    """One in full; several in a table, with those that do not fit in full below."""
    if len(estimates) == 1:
        return text(estimates[0])
    return "\n".join([table(estimates)] + [text(e) for e in estimates if not e.fits])


def table(estimates: list[Estimate]) -> str:
    """One line per estimate."""
    columns = [(t, c) for t, c in _COLUMNS if t != "changes" or any(e.changes for e in estimates)]
    rows = [[title for title, _ in columns]]
    rows += [[cell(estimate) for _, cell in columns] for estimate in estimates]
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells, the first of them titles, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def text(e: Estimate) -> str:
    """One estimate in full."""
    lines = [f"{e.topology}: {e.devices} x {e.device_kind}, {e.split}"]
    if not e.fits:
        lines.append(f"  does not fit, needs {e.memory_gb:.2f} of {e.usable_gb:.2f} GB")
        advice = e.suggestion or "nothing that was tried; a smaller model or more devices would"
        lines.append(f"  fits with  {advice}")
        return "\n".join(lines)
    lines += [
        f"  memory       {e.memory_gb:.2f} of {e.usable_gb:.2f} GB per device: parameters "
        f"{e.parameters_gb:.2f}, optimizer {e.optimizer_gb:.2f}, activations and the rest "
        f"{e.activations_gb:.2f}",
        f"  operations   {e.flops_per_step / 1e12:,.1f} TFLOP a step, {e.peak_share:.0%} of peak",
        f"  step         {1e3 * e.step_seconds:.1f} ms of computing, by the compiler's estimate:",
    ]
    for part, seconds in e.parts.items():
        lines.append(f"    {part:14s} {1e3 * seconds:8.1f} ms")
    lines.append(
        f"  collectives  {1e3 * e.collective_seconds:.1f} ms, if none overlaps with computing:"
    )
    for c in e.collectives:
        lines.append(
            f"    {c['kind']:18s} {c['count']:5.0f}  {c['gb']:7.3f} GB"
            f"  {1e3 * c['seconds']:8.1f} ms"
            + (", between slices" if c["network"] == "dcn" else "")
        )
    lines += [
        f"  time         {e.hours_per_epoch:.4f} hours an epoch, {e.hours:.1f} for the run "
        f"({e.hours_with_collectives:.1f} with collectives that do not overlap)",
        f"  input        each host must decode {e.images_per_second_per_host:,.0f} images/s",
    ]
    return "\n".join(lines)


def number(value: float | None, scale: float, form: str, unit: str = "") -> str:
    """A value as a cell; - where there is none."""
    return "-" if value is None else f"{value * scale:{form}}{unit}"
