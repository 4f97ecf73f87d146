"""The launchers for TPUs of Google Cloud, with stand-ins for gcloud and xpk."""

import os
import subprocess
from pathlib import Path

import pytest

from mae_jax import errors

LAUNCH = Path(__file__).parents[1] / "launch"
RUN = ["pretrain", "--config=configs/digits.py", "--workdir=/bucket/it's mine"]
AGAIN = {42, 43, 137}  # codes that say: start it again
CODES = {1, 137} | {e.exit_code for e in vars(errors).values() if hasattr(e, "exit_code")}


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A gcloud that notes what it is asked, and answers what files say; and the place to run in."""
    program = tmp_path / "gcloud"
    program.write_text(
        f"""#!/bin/bash
cd {tmp_path}
echo "$@" >> asked
next() {{ head -n 1 "$1"; [ "$(wc -l < "$1")" -le 1 ] || sed -i 1d "$1"; }}
case "$*" in
*describe*) [ "$(next states)" != ABSENT ] && next states || exit 1 ;;
*is-active*) exit 1 ;;
*mae_jax/code) next codes ;;
*scp*) for word in "$@"; do [[ $word != */mae_jax_run.sh ]] || cp "$word" .; done ;;
esac
"""
    )
    program.chmod(0o755)
    (tmp_path / "asked").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    values = dict(ZONE="z", TYPE="v5litepod-8", RUNTIME="r", BUCKET="b", PAUSE="0")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def vm(*arguments, **kwargs):
    script = [LAUNCH / "tpu_vm.sh", *arguments]
    return subprocess.run(["bash", *script], capture_output=True, text=True, timeout=60, **kwargs)


def asked(cloud, what):
    return [line for line in (cloud / "asked").read_text().splitlines() if what in line]


def test_a_slice_is_made_used_and_deleted(cloud):
    (cloud / "states").write_text("ABSENT\nACTIVE\n")
    (cloud / "codes").write_text("0\n")
    assert vm("mine", *RUN).returncode == 0
    (made,) = asked(cloud, "create")
    assert made == (
        "compute tpus queued-resources create mine --zone=z --node-id=mine "
        "--accelerator-type=v5litepod-8 --runtime-version=r"
    )
    assert len(asked(cloud, "systemd-run")) == len(asked(cloud, "--worker=all --command=rm")) == 1
    assert len(asked(cloud, "queued-resources delete mine")) == 1
    # The command, as the hosts get it: its words are what they were.
    (cloud / "mae_jax/.venv/bin").mkdir(parents=True)
    said = cloud / "mae_jax/.venv/bin/mae-jax"
    said.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit 42\n')
    said.chmod(0o755)
    subprocess.run(["bash", cloud / "mae_jax_run.sh"], env=os.environ | {"HOME": str(cloud)})
    assert (cloud / "mae_jax/log").read_text().splitlines() == RUN
    assert (cloud / "mae_jax/code").read_text() == "42\n"


def test_what_was_there_before_is_left_there(cloud):
    (cloud / "states").write_text("ACTIVE\n")
    (cloud / "codes").write_text("2\n")
    assert vm("mine", *RUN).returncode == 2
    assert not asked(cloud, "create") and not asked(cloud, "delete")


@pytest.mark.parametrize("code", sorted(CODES))
def test_it_starts_again_on_the_codes_that_say_so(cloud, code):
    (cloud / "states").write_text("ACTIVE\n")
    (cloud / "codes").write_text(f"{code}\n0\n")
    assert vm("mine", *RUN).returncode == (0 if code in AGAIN else code)
    assert len(asked(cloud, "systemd-run")) == (2 if code in AGAIN else 1)


def test_a_slice_that_was_taken_away_is_asked_for_again(cloud):
    (cloud / "states").write_text("ACTIVE\nACTIVE\nACTIVE\nACTIVE\nSUSPENDED\nSUSPENDED\nACTIVE\n")
    (cloud / "codes").write_text("lost\n0\n")
    assert vm("mine", *RUN).returncode == 0
    assert len(asked(cloud, "create")) == 1 and len(asked(cloud, "systemd-run")) == 2


def test_a_dry_run_asks_nothing(cloud, monkeypatch):
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("SPOT", "1")
    shown = vm("mine", *RUN)
    assert shown.returncode == 0 and not asked(cloud, "")
    steps = ("create mine", "scp", "gcsfuse", "systemd-run", "tail", "cat", "delete")
    lines = [line for line in shown.stdout.splitlines() if line[0] != "#"]
    assert all(step in line for step, line in zip(steps, lines, strict=True)), lines
    assert lines[0].rstrip().endswith("--spot")


def test_without_what_it_needs_it_says_so(monkeypatch):
    assert vm().returncode == 2 and "Dry run" in vm().stderr
    monkeypatch.delenv("ZONE", raising=False)
    assert "ZONE" in vm("mine", *RUN).stderr


def test_xpk_is_asked_to_restart_on_the_same(tmp_path, monkeypatch):
    program = tmp_path / "xpk"
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in dict(
        CLUSTER="c", ZONE="z", TYPE="v5litepod-64", IMAGE="i", DRY_RUN="1"
    ).items():
        monkeypatch.setenv(name, value)
    script = ["bash", LAUNCH / "xpk.sh", "l16", *RUN]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[:2] == ["workload", "create"] and "--dry-run" in said
    (codes,) = (line.partition("=")[2] for line in said if "exit-codes" in line)
    assert {int(code) for code in codes.split(",")} == AGAIN
    (command,) = (line.partition("=")[2] for line in said if line.startswith("--command"))
    words = subprocess.run(
        ["bash", "-c", command.replace("exec mae-jax", "printf '%s\\n'")],
        capture_output=True,
        text=True,
    )
    assert words.stdout.splitlines() == RUN
