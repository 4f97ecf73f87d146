"""The examples that the files of launch/ open with, typed as they stand, in dry runs.

What they print is in golden/launch/; `python tests/test_launch_examples.py` writes it anew.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden/launch"
FILES = ("tpu_vm.sh", "jobset.sh", "xpk.sh", "slurm.sh", "skypilot.yaml")
# What is not called in a dry run is not here.
STAND_INS = {
    # Words, one a line, that are not as they would be typed.
    "xpk": 'printf "xpk\\n"; printf "  %s\\n" "$@"',
    "sky": 'printf "sky\\n"; printf "  %s\\n" "$@"',
    # What SLURM reads in the script, and what the first and the last job of an array then run.
    "sbatch": r"""
printf 'sbatch: %s\n' "$@" | grep -B99 '\.sh$'
while [[ $1 == --* ]]; do
    if [[ $1 == --array=* ]]; then range=${1#*=}; fi
    shift
done
grep '^#SBATCH' "$1"
if [ -z "${range:-}" ]; then exec bash "$@"; fi
export SLURM_ARRAY_TASK_MIN=${range%-*} SLURM_ARRAY_TASK_MAX=${range#*-}
for end in $SLURM_ARRAY_TASK_MIN $SLURM_ARRAY_TASK_MAX; do SLURM_ARRAY_TASK_ID=$end bash "$@"; done
""",
    "srun": 'printf "srun\\n"; printf "  %s\\n" "$@"',
    "seq": "echo 9",  # the last share alone
}


def examples(file):
    """Commands of a file's head, which are further in than its sentences."""
    head = re.match("(#.*\n)+", (REPOSITORY / "launch" / file).read_text()).group()
    return "".join(line[1:] + "\n" for line in head.splitlines() if line.startswith("#   "))


def shown(file, folder):
    """What the examples print in a dry run, places of this machine left out."""
    for name, script in STAND_INS.items():
        program = Path(folder) / name
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
    known = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "DRY_RUN": "1"}
    made = subprocess.run(
        ["bash", "-euc", examples(file)], cwd=REPOSITORY, env=known, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return re.sub(r"/\S*/(mae_jax(?:\.tgz|_run\.sh)) ", r"\1 ", made.stdout)


@pytest.mark.parametrize("file", FILES)
def test_the_examples_do_what_they_did(tmp_path, file):
    assert shown(file, tmp_path) == (GOLDEN / f"{file}.txt").read_text()


def test_every_file_of_the_folder_has_examples():
    there = {path.name for path in (REPOSITORY / "launch").iterdir()}
    assert there - {"jobset.yaml"} == set(FILES)  # which jobset.sh shows


if __name__ == "__main__":
    for each in FILES:
        with tempfile.TemporaryDirectory() as place:
            text = shown(each, place)
        sys.stdout.write(f"{each}\n{text}")
        (GOLDEN / f"{each}.txt").write_text(text)
