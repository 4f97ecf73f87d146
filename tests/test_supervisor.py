"""The process that watches another, with work that is not training."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
from mae_jax import beats, supervisor
supervisor._STOPPED = supervisor._ANSWER = 2.0
def work():
    {work}
sys.exit(supervisor.supervise(work))
"""
RUN = "beats.begin(); beats.place(1, Path(sys.argv[1])); print(os.getpid(), flush=True); "


@pytest.fixture
def start(tmp_path):
    def begin(work, **options):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(work=work), str(tmp_path)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            **options,
        )  # fmt: skip

    return begin


def ended(process, seconds=30):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 1, 2, 3, 42, 130])
def test_codes_output_and_input_pass(start, code):
    process = start(f"print(input()); print('no', file=sys.stderr); return {code}")
    out, err = process.communicate("yes\n", timeout=30)
    assert (process.returncode, out, err) == (code, "yes\n", "no\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SIGKILL", "was ended by SIGKILL at step 1; if memory ran out, it needs less; the same"),
        ("SIGABRT", "was ended by SIGABRT at step 1; mostly because another process of the run"),
        ("SIGSEGV", "was ended by SIGSEGV at step 1; what its threads did is in"),
    ],
)
def test_a_death_in_a_run_means_start_again(start, tmp_path, name, said):
    work = RUN + f"beats.other('step 1'); os.kill(os.getpid(), signal.{name})"
    code, _, err = ended(start(work))
    assert code == 43 and err.count("\n") == 1, err
    assert err.startswith("mae-jax: process 1 ") and said in err
    stacks = tmp_path / "stacks-process-1.txt"
    assert stacks.exists() == (name != "SIGKILL")
    assert not stacks.exists() or "in work" in stacks.read_text()


def test_what_the_run_has_said_itself_is_not_said_again(start):
    work = RUN + "beats.ends(3); os.abort()"
    code, _, err = ended(start(work))
    assert (code, err) == (3, "")


def test_outside_a_run_a_death_is_what_it_was(start):
    assert ended(start("os.kill(os.getpid(), signal.SIGKILL)")) == (128 + 9, "", "")


def test_a_thread_that_waits_for_ever_ends_the_run_and_leaves_stacks(start, tmp_path):
    work = RUN.replace("begin()", "begin(1)") + (
        "[beats.step(i) for i in range(9)]; "
        "threading.Thread(target=time.sleep, args=(99,)).start(); threading.Event().wait()"
    )
    began = time.monotonic()
    code, _, err = ended(start(work))
    assert code == 43 and time.monotonic() - began < 10
    assert err.startswith("mae-jax: process 1 is stuck at step 4; what its threads did is in"), err
    stacks = (tmp_path / "stacks-process-1.txt").read_text()
    assert stacks.lower().count("thread 0x") == 2 and "in wait" in stacks and "in work" in stacks


def test_a_limit_of_zero_is_none(start):
    work = RUN.replace("begin()", "begin(0)") + "[beats.step(i) for i in range(9)]; time.sleep(2)"
    assert ended(start(work))[0] == 0


def test_a_stopped_run_is_stuck(start, tmp_path):
    process = start(RUN + "beats.other('a save'); print('ready', flush=True); time.sleep(99)")
    child, _ = int(process.stdout.readline()), process.stdout.readline()
    os.kill(child, signal.SIGSTOP)
    code, _, err = ended(process)
    assert code == 43 and "process 1 was stopped at a save; what its threads did is in" in err
    assert "in work" in (tmp_path / "stacks-process-1.txt").read_text()


def test_a_run_that_a_person_stopped_goes_on(start):
    """Ctrl-Z stops both."""
    process = start(RUN + "beats.other('a save'); time.sleep(1); print('on')", process_group=0)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4)
    os.killpg(process.pid, signal.SIGCONT)
    assert ended(process) == (0, "on\n", "")


def test_who_is_in_a_debugger_has_time(start):
    process = start(RUN.replace("begin()", "begin(1)") + "beats.other('x'); "
                    "[beats.step(i) for i in range(9)]; breakpoint()")  # fmt: skip
    time.sleep(4)
    out, _ = process.communicate("c\n", timeout=30)
    assert process.returncode == 0 and "(Pdb)" in out


STOPPING = RUN + (
    "from mae_jax.train.stop import stop_signal; "
    "context = stop_signal(); stop = context.__enter__(); beats.other('x'); "
    "print('ready', flush=True); [time.sleep(0.05) for _ in range(400) if not stop]; "
    "time.sleep(0.5); return 42 if stop else 0"
)


@pytest.mark.parametrize("whom", ["parent", "child", "group"])
@pytest.mark.parametrize("what", ["SIGTERM", "SIGINT"])
def test_being_told_to_stop_is_heard_once(start, whom, what):
    process, number = start(STOPPING, process_group=0), getattr(signal, what)
    child = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if whom == "parent" else child, number)
    code, _, err = ended(process)
    assert code == 42 and err.count("stopping: ") == 1, err


def test_being_told_twice_stops_at_once(start):
    process = start(STOPPING.replace("sleep(0.5)", "sleep(9)"))
    process.stdout.readline(), process.stdout.readline()
    process.terminate()
    assert "stopping: " in process.stderr.readline()
    time.sleep(1.2)
    process.terminate()
    code, _, err = ended(process)
    assert code != 42 and "KeyboardInterrupt" in err


def test_told_to_stop_before_there_is_anything_to_save(start):
    process = start(RUN + "beats.other('x'); print('ready', flush=True); time.sleep(99)")
    process.stdout.readline(), process.stdout.readline()
    process.terminate()
    code, _, err = ended(process)
    assert code == 42 and err.startswith("mae-jax: stopped at x; the same command goes on")


def test_the_work_ends_when_its_watcher_is_killed(start):
    process = start(RUN + "time.sleep(99)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait(30)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it lives")
