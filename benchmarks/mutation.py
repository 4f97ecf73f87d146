"""Tries the tests: puts small faults into the code, one at a time, and lists those that none sees.

    .venv/bin/pip install mutmut && .venv/bin/python benchmarks/mutation.py masking --sample=40

Works on a copy. mutmut makes the faults, and runs for each the tests below that reach the function
it lies in. It does not put any into functions with decorators, nor outside of functions.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What is tried: files below mae_jax/, and the tests of it that take seconds.
GROUPS = {
    "masking": (["models/masking"], ["models/test_masking"]),
    "patches": (["models/patches"], ["models/test_patches", "models/test_mae"]),
    "mae": (["models/mae"], ["models/test_mae", "models/test_golden"]),
    "objectives": (
        ["train/objectives"],
        ["train/test_objectives", "train/test_step", "train/test_step_of_classifiers"],
    ),
    "step": (["train/step"], ["train/test_step", "train/test_step_of_classifiers"]),
    "order": (["data/order"], ["data/test_loader"]),
    "checkpoint": (
        ["train/checkpoints/manifest", "train/checkpoints/checkpoint"],
        ["train/checkpoints/test_checkpoint"],
    ),
    "keymap": (["weights/keymap"], ["weights/test_roundtrip", "weights/test_refusals"]),
    "measures": (["evaluation/measures"], ["evaluation/test_measures"]),
    "knn": (["evaluation/knn"], ["evaluation/test_knn"]),
}
# Imported before processes are forked; nothing of ours, which may look at faults as it is imported.
_PRELOADED = (
    "flax.nnx",
    "hypothesis",
    "optax",
    "orbax.checkpoint",
    "tensorflow_datasets",
    "xxhash",
)
_MUTMUT = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()"]


def tried(group: str, sample: int | None, seed: int) -> None:
    files, tests = GROUPS[group]
    files = [f"mae_jax/{name}.py" for name in files]
    folder = Path(tempfile.mkdtemp(prefix=f"mutation_{group}_"))
    for name in ("mae_jax", "tests", "configs", "benchmarks", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "preloaded").write_text("\n".join(_PRELOADED))
    settings = {
        "source_paths": ["mae_jax"],
        "only_mutate": files,
        "pytest_add_cli_args_test_selection": [f"tests/{name}.py" for name in tests],
        # No test that starts processes, which the limits of time do not reach.
        "pytest_add_cli_args": ["-m", "not slow"],
        "also_copy": ["configs", "benchmarks"],
        "process_isolation": ["forkserver"],  # JAX must not be forked once it has begun
        "forkserver_warmup": ["import"],
        "preload_modules_file": ["preloaded"],
        "timeout_constant": ["20"],
        "use_git_change_detection": ["false"],
    }
    lines = ["[mutmut]"]
    for key, values in settings.items():
        lines.append(f"{key} = " + "\n    ".join(values))
    (folder / "setup.cfg").write_text("\n".join(lines) + "\n")
    with contextlib.chdir(folder):  # where mutmut looks for its settings
        names = [name for file in files for name in _faults(file)]
    chosen = names if sample is None else random.Random(seed).sample(names, min(sample, len(names)))
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    with (folder / "log").open("w") as log:
        subprocess.run(
            [*_MUTMUT, "run", "--max-children=2", *chosen],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    found = {}
    for file in files:
        found |= json.loads((folder / "mutants" / f"{file}.meta").read_text())["exit_code_by_key"]
    left = [name for name in chosen if found.get(name) in (0, 33)]
    untold = [name for name in chosen if found.get(name) is None]
    print(
        f"{group}: {len(names)} faults, {len(chosen)} tried, "
        f"{len(chosen) - len(left) - len(untold)} seen, {len(left)} not, {len(untold)} not told; "
        f"{folder}",
        flush=True,
    )
    for name in left:
        print(f"  {name} {'no test' if found[name] == 33 else ''}")
        shown = subprocess.run(
            [*_MUTMUT, "show", name], cwd=folder, env=environment, capture_output=True, text=True
        ).stdout
        changed = (
            line
            for line in shown.splitlines()
            if line[:1] in "+-" and line[:3] not in ("+++", "---")
        )
        print("".join(f"    {line}\n" for line in changed), flush=True)


def _faults(file: str) -> list[str]:
    from mutmut.configuration import reset_config
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    reset_config()
    made = mutate_file_contents(file, Path(file).read_text()).mutant_names
    return [get_mutant_name(Path(file), name) for name in made]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS])
    parser.add_argument("--sample", type=int, help="faults of a group that are tried; all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for group in arguments.groups or GROUPS:
        tried(group, arguments.sample, arguments.seed)


if __name__ == "__main__":
    main()
