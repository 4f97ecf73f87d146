"""`mae-jax` as two processes: one that works, and one that knows what became of it.

How a process ends is not its own to choose when C++ aborts it, memory runs out or a thread waits
for ever; the exit code is what launchers go by. So the command forks before anything is imported
that has threads. The child goes on as if nothing had happened: same terminal, same process group,
so that logs, Ctrl-C and debuggers need no help. The parent turns deaths and silences into codes.
"""

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mae_jax import beats
from mae_jax.errors import HostMissing, Preempted

_TICK = 1.0  # seconds
_STOPPED = beats.FLOOR  # that the child may be stopped for while this process is not
_ANSWER = 5.0  # to write stacks in
_KILLED = 10.0  # to be gone in, which what waits for a disk may never be
_HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_PDEATHSIG = 1  # of <sys/prctl.h>
# Files whose functions wait for a person.
_DEBUGGERS = re.compile(rb'/(pdb|bdb|debugger|pydevd)\.py"')


def supervise(work: Callable[[], int]) -> int:
    """Forks; what `work` returns in the child, and in the parent the exit code for what it did.

    Where that cannot be (not on Linux), or would be in the way of a debugger: `work`, alone.
    """
    if not hasattr(signal, "sigtimedwait") or sys.gettrace() is not None:
        return work()
    (beat, to_beat), (stack, to_stack) = os.pipe(), os.pipe()
    for end in (beat, to_beat, stack):
        os.set_blocking(end, False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(beat)
        os.close(stack)
        _end_with(parent)
        beats.connect(to_beat, to_stack)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work()
    os.close(to_beat)
    os.close(to_stack)
    return _Child(child, beat, stack).code()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is killed: nobody else would know of it."""
    import ctypes

    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(HostMissing.exit_code)


class _Child:
    """The process that works, as seen by the one that waits."""

    def __init__(self, pid: int, beat: int, stack: int):
        self._pid, self._beat, self._stack = pid, beat, stack
        self._beats, self._stacks = b"", b""  # what was read
        self._process, self._folder = None, None  # of a run, once it is one
        self._doing, self._left = "", None  # seconds
        self._stopped, self._resting = False, 0.0  # seconds that it may still be stopped for
        self._told, self._code = False, None  # what it has said it ends with

    def code(self) -> int:
        """Waits until it has ended; the exit code for that."""
        before = time.monotonic()
        while (status := self._ended()) is None:
            came = signal.sigtimedwait(_HANDLED, _TICK)
            self._listen()
            # After it was stopped itself Python gives one that says nothing.
            if came is not None and came.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._hand_on(came)
            now = time.monotonic()
            # Of a longer time this process knows nothing: it was stopped itself, as by Ctrl-Z.
            spent, before = min(now - before, 2 * _TICK), now
            if self._left is None:
                continue
            self._left -= spent
            self._resting -= spent
            late = self._left <= 0 or (self._stopped and self._resting <= 0)
            if late and not self._debugged():
                return self._stuck()
        self._listen()
        return self._meaning(status)

    def _ended(self) -> int | None:
        """Its status; takes note of whether it is stopped."""
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if not pid:
            return None
        if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
            self._stopped, self._resting = os.WIFSTOPPED(status), _STOPPED
            return None
        return status

    def _hand_on(self, came: signal.struct_siginfo) -> None:
        """Gives it a signal that was sent to this process, perhaps alone.

        The first as another signal, which asks to stop once however often it comes: who sends
        SIGTERM to a whole group has sent it to the child already.
        """
        if came.si_code > 0:
            return  # Ctrl-C: the terminal sends it to both
        known = self._process is not None and not self._told
        self._told = True
        os.kill(self._pid, signal.SIGUSR2 if known else came.si_signo)

    def _listen(self) -> None:
        self._stacks += _read(self._stack)
        *lines, self._beats = (self._beats + _read(self._beat)).split(b"\n")
        for line in map(json.loads, lines):
            self._process = line.get("process", self._process)
            self._folder = line.get("folder", self._folder)
            self._code = line.get("code", self._code)
            if "doing" in line:
                self._doing, self._left = line["doing"], line["limit"]

    def _debugged(self) -> bool:
        """Whether it waits for a person, and so has more time; writes the stacks of all threads."""
        traced = "TracerPid:\t0\n" not in Path(f"/proc/{self._pid}/status").read_text()
        if not traced:
            self._stacks = b""
            os.kill(self._pid, signal.SIGUSR1)
            os.kill(self._pid, signal.SIGCONT)
            until = time.monotonic() + _ANSWER
            while time.monotonic() < until:
                time.sleep(0.2)
                read = _read(self._stack)
                if self._stacks and not read:
                    break
                self._stacks += read
        if traced or _DEBUGGERS.search(self._stacks):
            self._left = self._resting = _STOPPED
            return True
        return False

    def _stuck(self) -> int:
        what = "was stopped" if self._stopped else "is stuck"
        os.kill(self._pid, signal.SIGKILL)
        until = time.monotonic() + _KILLED
        while self._ended() is None and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
        return self._missing(f"{what} at {self._doing}")

    def _meaning(self, status: int) -> int:
        """The exit code for how it has ended; says what it could not say itself."""
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        if self._code is not None:
            return self._code
        number = os.WTERMSIG(status)
        if self._process is None or number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            return 128 + number  # as a shell says it
        if number in (signal.SIGTERM, signal.SIGUSR2):
            _say(f"stopped at {self._doing}; the same command goes on from what is saved")
            return Preempted.exit_code
        name = signal.Signals(number).name
        reasons = {
            signal.SIGKILL: "; if memory ran out, it needs less",
            signal.SIGABRT: "; mostly because another process of the run is gone or stuck",
        }
        return self._missing(f"was ended by {name} at {self._doing}{reasons.get(number, '')}")

    def _missing(self, what: str) -> int:
        """Says what became of it."""
        _say(f"process {self._process} {what}{self._keep()}; the same command resumes")
        return HostMissing.exit_code

    def _keep(self) -> str:
        """Puts the stacks of its threads, if there are any, into the work folder."""
        if not self._stacks:
            return ""
        stacks = self._stacks.decode(errors="replace")
        if self._folder is not None:
            path = Path(self._folder) / f"stacks-process-{self._process}.txt"
            try:
                path.write_text(f"{time.ctime()}, at {self._doing}\n{stacks}")
                return f"; what its threads did is in {path}"
            except OSError:
                pass
        print(stacks, file=sys.stderr)
        return "; what its threads did is above"


def _read(pipe: int) -> bytes:
    """What there is to be read now."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while read := os.read(pipe, 1 << 16):
            found += read
    return found


def _say(text: str) -> None:
    print(f"mae-jax: {text}", file=sys.stderr, flush=True)
