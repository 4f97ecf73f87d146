"""mae-jax checkpoint: list and verify what a run has saved."""

from pathlib import Path
from typing import Any

from mae_jax.commands.verb import Flag, Group, Positional, Verb
from mae_jax.errors import NoUsableCheckpoint, UsageError


def list(workdir: str | Path) -> dict[str, Any]:
    """Name the checkpoints of a work folder, and what else lies among them.

    Args:
      workdir: of a run.

    Returns:
      `checkpoints`, each with its step, bytes, whether it has a manifest, and why it is `kept`;
      the names of those that were `set_aside` as damaged, and of what is `foreign`.

    Raises:
      UsageError: it is no work folder.
    """
    from mae_jax.train import manifest, retention
    from mae_jax.train import workdir as runs

    folder = _folder(workdir)
    steps = manifest.steps(folder)
    why = retention.reasons(folder, steps, runs.read_config(workdir)["checkpoint"])
    return {
        "checkpoints": [_described(folder, step) | {"kept": why[step]} for step in steps],
        "set_aside": manifest.damaged(folder),
        "foreign": manifest.foreign(folder),
    }


def verify(workdir: str | Path, *, step: int | None = None) -> dict[str, Any]:
    """Read every byte of a work folder's checkpoints, and compare with what was saved.

    Args:
      workdir: of a run.
      step: one checkpoint; all by default.

    Returns:
      `checkpoints` as of `list`, each with its `damage`: None where there is none that a manifest
      can show.

    Raises:
      UsageError: it is no work folder, or has no such checkpoint.
    """
    from mae_jax.train import manifest

    folder = _folder(workdir)
    steps = manifest.steps(folder)
    if step is not None and step not in steps:
        raise UsageError(f"{str(workdir)!r} has no checkpoint of step {step}; it has {steps}")
    found = [_described(folder, s) for s in steps if step in (None, s)]
    for one in found:
        path = folder / str(one["step"])
        one["damage"] = manifest.damage(path) if one["manifest"] else None
    return {"checkpoints": found}


def _folder(workdir):
    folder = Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise UsageError(
            f"{str(workdir)!r} is not the work folder of a run: it has no checkpoints/"
        )
    return folder


def _described(folder, step):
    from mae_jax.train import manifest

    path = folder / str(step)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"step": step, "bytes": size, "manifest": manifest.has_manifest(path)}


def _text(result: dict[str, Any]) -> str:
    lines = []
    for one in result["checkpoints"]:
        said = []
        if not one["manifest"]:
            said.append("has no manifest: it cannot be verified")
        elif "damage" in one:
            said.append(f"damaged: {one['damage']}" if one["damage"] else "whole")
        if one.get("kept"):
            said.append(f"kept: {', '.join(one['kept'])}")
        elif "kept" in one:
            said.append("goes with the next save")
        lines.append(
            f"step {one['step']:<8d} {one['bytes'] / 2**20:9.1f} MiB  {'; '.join(said)}".rstrip()
        )
    lines += [f"{name} was damaged, and is set aside" for name in result.get("set_aside", ())]
    lines += [f"{name} is no checkpoint" for name in result.get("foreign", ())]
    return "\n".join(lines) or "no checkpoints"


_WORKDIR = Positional("workdir", "WORKDIR", "the work folder of a run")

VERB = Group(
    "checkpoint",
    "List or verify what a run has saved.",
    place=12,
    actions=(
        Verb(
            list,
            group="checkpoint",
            usage="WORKDIR",
            example="runs/photos",
            positionals=(_WORKDIR,),
            computes=False,
            text=_text,
        ),
        Verb(
            verify,
            group="checkpoint",
            usage="WORKDIR [--step=N]",
            example="runs/photos",
            positionals=(_WORKDIR,),
            flags=(Flag("step", "N", "one of them"),),
            computes=False,
            text=_text,
            exit_code=lambda result: (
                NoUsableCheckpoint.exit_code
                if any(one["damage"] for one in result["checkpoints"])
                else 0
            ),
        ),
    ),
)
