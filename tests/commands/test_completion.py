"""Completion, asked of the shells themselves: a line is typed, TAB and then Enter."""

import os
import pty
import re
import shutil
import subprocess
import sys
import time

import pytest

from mae_jax.commands.completion import completion
from mae_jax.errors import UsageError

# The command is one that shows what it was given.
_SHOW = "mae-jax() { printf '{'; printf '<%s>' \"$@\"; printf '}\\n'; }\n"
_START = {
    "bash": (["--norc", "--noprofile", "-i"], "PS1=\nset +o history\n"),
    "zsh": (["-f", "-i"], "PS1=\nunsetopt zle_bracketed_paste prompt_sp\nautoload -Uz compinit\n"),
}
LINES = {
    "pretr\t": "pretrain",
    "embed runs --ou\tx": "embed runs --outx",  # --out= and --output= differ later
    "embed runs --outp\t": "embed runs --output=",
    "embed runs --output=to\t": "embed runs --output=token",
    "pretrain --config.model.mask_r\t0.5": "pretrain --config.model.mask_ratio=0.5",
    "pretrain --config.model.sampling=bl\t": "pretrain --config.model.sampling=block",
    "pretrain --config=first\t": "pretrain --config=first config.py",
    "export fir\t": "export first config.py",
    "data che\tfirst\t": "data check first config.py",
    "data stats --ima\t5": "data stats --images=5",
    "completion z\t": "completion zsh",
}


def typed(shell, folder, lines):
    """What the command is given, for each of the lines."""
    script = folder / "completion"
    script.write_text(completion(shell)["script"])
    path = shutil.which(os.environ.get(f"MAE_JAX_{shell.upper()}", shell))
    arguments, setting = _START[shell]
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)}
    process = subprocess.Popen(
        [path, *arguments], stdin=follower, stdout=follower, stderr=follower, cwd=folder,
        env=environment | {k: v for k, v in os.environ.items() if k in ("FPATH", "MODULE_PATH")},
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)
    said = b""

    def until(pattern):
        nonlocal said
        deadline = time.monotonic() + 20
        while not re.search(pattern, said):
            assert time.monotonic() < deadline, said.decode(errors="replace")
            try:
                said += os.read(leader, 65536)
            except BlockingIOError:
                time.sleep(0.01)

    try:
        os.write(leader, f"{setting}source ./completion\n{_SHOW}echo read''y\n".encode())
        until(rb"\nready|ready\r")
        for number, line in enumerate(lines):
            for part in re.split("(?<=\t)", f"mae-jax {line}"):
                os.write(leader, part.encode())
                if shell == "zsh":  # it throws away what is typed ahead while it completes
                    time.sleep(0.1)
            os.write(leader, b"\n")
            until(rb"(?s)(\{<[^}]*\}.*){%d}" % (number + 1))
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    found = re.findall(r"\{((?:<[^>]*>)+)\}", said.decode())
    return [" ".join(re.findall("<([^>]*)>", words)) for words in found]


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes(shell, tmp_path):
    if shutil.which(os.environ.get(f"MAE_JAX_{shell.upper()}", shell)) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "first config.py").touch()
    assert typed(shell, tmp_path, LINES) == list(LINES.values())


def test_other_shells_are_refused():
    with pytest.raises(UsageError, match="shell 'fish' is unknown; known are bash, zsh"):
        completion("fish")
