"""mae-jax checkpoint: list, verify and adopt what a run has saved."""

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
    from mae_jax.train import workdir as runs
    from mae_jax.train.checkpoints import manifest, retention

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
    from mae_jax.train.checkpoints import manifest

    folder = _folder(workdir)
    steps = manifest.steps(folder)
    if step is not None and step not in steps:
        raise UsageError(f"{str(workdir)!r} has no checkpoint of step {step}; it has {steps}")
    found = [_described(folder, s) for s in steps if step in (None, s)]
    for one in found:
        path = folder / str(one["step"])
        one["damage"] = manifest.damage(path) if one["manifest"] else None
    return {"checkpoints": found}


def adopt(
    workdir: str | Path, *, step: int | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Give a checkpoint that has none a manifest, or take back one that was set aside.

    All of it is read first, and it is left as it is if that cannot be.

    Args:
      workdir: of a run that is not under way.
      step: one checkpoint without a manifest; all of them by default.
      folder: the name of a folder in checkpoints/ instead, such as 8.damaged-1.

    Returns:
      `adopted`, each as `train.checkpoints.adoption.adopt` gives it.

    Raises:
      UsageError: it is no work folder, is in use, or there is nothing to adopt.
      NoUsableCheckpoint, StorageFaltered: as `train.checkpoints.adoption.adopt`.
    """
    from mae_jax.train import workdir as runs
    from mae_jax.train.checkpoints import adoption, manifest

    if step is not None and folder is not None:
        raise UsageError(f"give --step={step} or --folder={folder}, not both")
    checkpoints, config = _folder(workdir), runs.read_config(workdir)
    names = [name for name in (step, folder) if name is not None] or [
        s for s in manifest.steps(checkpoints) if not manifest.has_manifest(checkpoints / str(s))
    ]
    if not names:
        raise UsageError(
            f"all checkpoints in {str(workdir)!r} have a manifest; one that was set aside is taken "
            "back by its name, as in --folder=8.damaged-1"
        )
    with runs.claim(workdir, config):
        return {"adopted": [adoption.adopt(checkpoints, str(name)) for name in names]}


def _folder(workdir):
    folder = Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise UsageError(
            f"{str(workdir)!r} is not the work folder of a run: it has no checkpoints/"
        )
    return folder


def _described(folder, step):
    from mae_jax.train.checkpoints import manifest

    path = folder / str(step)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"step": step, "bytes": size, "manifest": manifest.has_manifest(path)}


def _text(result: dict[str, Any]) -> str:
    lines = []
    for one in result["checkpoints"]:
        said = []
        if not one["manifest"]:
            said.append("has no manifest: it cannot be verified until it is adopted")
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


def _adopted(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{one['path']} is taken: "
        + ("whole by its manifest" if one["verified"] else "a manifest was written")
        + f", {one['arrays']} arrays were read"
        for one in result["adopted"]
    )


_WORKDIR = Positional("workdir", "WORKDIR", "the work folder of a run")

VERB = Group(
    "checkpoint",
    "List, verify or adopt what a run has saved.",
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
        Verb(
            adopt,
            group="checkpoint",
            usage="WORKDIR [--step=N | --folder=NAME]",
            example="runs/photos --folder=1200.damaged-1",
            positionals=(_WORKDIR,),
            flags=(
                Flag("step", "N", "one without a manifest; all of them by default"),
                Flag("folder", "NAME", "one that was set aside, by its name in checkpoints/"),
            ),
            computes=False,
            text=_adopted,
        ),
    ),
)
