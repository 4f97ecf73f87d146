"""The commands of docs/pods.md for hosts that one reaches by ssh, with hosts that are folders."""

import os
import re
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
STAND_INS = {
    "ssh": 'mkdir -p {at}/$1; cd {at}/$1; shift; exec bash -c "$*"',
    # An environment whose mae-jax notes its words; the first try on a host ends with 43.
    "python3": """mkdir -p .venv/bin
printf '#!/bin/sh\\necho "$@" >> installed\\n' > .venv/bin/pip
printf '#!/bin/sh\\necho "$@" >> tries; [ "$(wc -l < tries)" = 2 ] || exit 43\\n' \\
    > .venv/bin/mae-jax
chmod +x .venv/bin/*""",
}


def test_the_page_can_be_typed(tmp_path):
    page = (REPOSITORY / "docs/pods.md").read_text()
    (commands,) = re.findall(r"```sh\n(hosts=.*?)```", page, re.DOTALL)
    for name, script in STAND_INS.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{script.replace('{at}', str(tmp_path))}\n")
        program.chmod(0o755)
    subprocess.run(
        ["bash", "-euc", commands],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        timeout=60,
    )
    # What was started runs on behind the shell.
    folders = [tmp_path / f"gpu{i + 1}/mae_jax" for i in range(4)]
    until = time.monotonic() + 60
    while time.monotonic() < until and sum(len(tries(folder)) for folder in folders) < 8:
        time.sleep(0.05)
    for i, folder in enumerate(folders):
        assert (folder / "setup.py").is_file()
        assert (folder / "installed").read_text().startswith("install -e .[cuda,tensorflow] -c ")
        words = "pretrain --config=configs/in1k/l16.py --workdir=/shared/runs/l16 "
        words += f"--coordinator=gpu1:8476 --num_processes=4 --process_id={i}"
        assert tries(folder) == [words, words]


def tries(folder):
    """The words of every start on a host."""
    path = folder / "tries"
    return path.read_text().splitlines() if path.exists() else []
