"""Worker processes end with their parent, however that ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from endmark.rollout import Lockstep, Workers
from support.scripted import ByObservation, Scripted
from support.trials import WHOLE
from support.troubled import InReset, LeavesANote, workers_alive

pytestmark = pytest.mark.slow  # it waits for programs
SPEC = Scripted().spec


def test_close_closes_the_environments_and_ends_the_processes(tmp_path: Path) -> None:
    envs = Workers(partial(LeavesANote, tmp_path), SPEC, workers=2, envs_per_worker=3)
    Lockstep(envs, range(50)).collect(ByObservation())
    assert sorted(workers_alive()) == ["endmark worker 0", "endmark worker 1"]
    envs.close()
    assert workers_alive() == []
    assert len(list(tmp_path.iterdir())) == 6
    envs.close()


def test_close_ends_also_what_hangs() -> None:
    envs = Workers(partial(InReset, "hang", frozenset([1])), SPEC, workers=1, envs_per_worker=1)
    Lockstep(envs, [1])
    envs.close()
    assert workers_alive() == []


SCRIPT = """
import multiprocessing, os, signal, sys, time
from functools import partial
from endmark.rollout import Lockstep, Workers
from support.scripted import ByObservation, Scripted
from support.troubled import InReset, Slow

if __name__ == "__main__":
    make_env = {make_env}
    envs = Workers(make_env, Scripted().spec, workers=2, envs_per_worker=1)
    rollout = Lockstep(envs, range(1, 50))
    {collect}
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    {end}
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for temporary files whose path is short enough for the address of a socket in it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def script(tmp_path: Path, temporary: Path | None = None, **parts: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    temporary_files = {} if temporary is None else {"TMPDIR": str(temporary)}
    path.write_text(SCRIPT.format(**parts))
    with (tmp_path / "stderr").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-W", "error", path],
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": "1",
                **temporary_files,
            },
            text=True,
        )


def wait_for_the_end(pids: list[str]) -> None:
    for _ in range(600):
        states = subprocess.run(["ps", "-o", "stat=", "-p", ",".join(pids)], capture_output=True, text=True)
        # Nobody may be there to bury them: a zombie has ended.
        if all(state.startswith("Z") for state in states.stdout.split()):
            return
        time.sleep(0.1)
    raise AssertionError(f"still alive after a minute: {pids}")


def test_forgetting_to_close_does_no_harm(tmp_path: Path) -> None:
    process = script(tmp_path, make_env="Scripted", collect="rollout.collect(ByObservation())", end="")
    pids, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(pids.split()) == 2
    wait_for_the_end(pids.split())
    assert (tmp_path / "stderr").read_text() == ""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"] if WHOLE else ["SIGINT"])
def test_a_signal_to_the_group_is_the_parent_s_business(number: str, tmp_path: Path) -> None:
    """Ctrl-C and the end of a job reach every process; whoever collects decides what that means."""
    end = f"""
    signal.signal(signal.{number}, lambda *_: None)
    for _ in range(10):
        os.killpg(0, signal.{number})
        assert rollout.collect(ByObservation()).n_episodes > 0
    envs.close()
    """
    process = script(tmp_path, make_env="Slow", collect="rollout.collect(ByObservation())", end=end)
    process.communicate(timeout=120)
    assert (tmp_path / "stderr").read_text() == ""
    assert process.returncode == 0


WAITING = {"make_env": "Scripted", "collect": "rollout.collect(ByObservation())"}
IN_A_STEP = {"make_env": "partial(InReset, 'hang', frozenset([1, 2]))", "collect": ""}
IN_SHARED_MEMORY = Path("/dev/shm")


def named_memory() -> set[str]:
    """The names of shared memory, but for those of browsers."""
    return {name for name in os.listdir(IN_SHARED_MEMORY) if not name.startswith(".")}


def wait_until_nothing_is_left(temporary: Path, memory: set[str]) -> None:
    """No temporary file, and no name of shared memory that was not there before.

    A moment later, since tests that run beside this one have memory with a name while they get it.
    """
    for _ in range(100):
        if not (left := [*os.listdir(temporary), *(named_memory() - memory)]):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there after 10 s: {left}")


@pytest.mark.skipif(not IN_SHARED_MEMORY.is_dir(), reason="shared memory has no directory here")
@pytest.mark.parametrize("parts", [WAITING, IN_A_STEP], ids=["waiting", "in the middle of a step"])
def test_workers_end_when_their_parent_is_killed(
    parts: dict[str, str], tmp_path: Path, temporary: Path
) -> None:
    """They leave nothing behind, in the name of their parent either."""
    memory = named_memory()
    process = script(tmp_path, temporary, **parts, end="time.sleep(3600)")
    assert process.stdout is not None
    pids = process.stdout.readline().split()
    assert len(pids) == 2, (tmp_path / "stderr").read_text()
    assert os.listdir(temporary) != []  # the address of the fork server
    process.kill()
    process.communicate(timeout=60)
    wait_for_the_end(pids)
    wait_until_nothing_is_left(temporary, memory)
    time.sleep(0.5)  # for what the resource tracker would have to say
    assert re.sub(r"\s", "", (tmp_path / "stderr").read_text()) == ""


@pytest.mark.skipif(not IN_SHARED_MEMORY.is_dir(), reason="shared memory has no directory here")
@pytest.mark.parametrize(
    "end", ["envs.close()", "os.kill(os.getpid(), signal.SIGKILL)"] if WHOLE else ["envs.close()"]
)
def test_a_killed_worker_leaves_nothing_behind(end: str, tmp_path: Path, temporary: Path) -> None:
    """However its parent ends later."""
    kill = """
    import warnings
    warnings.simplefilter("ignore")
    multiprocessing.active_children()[0].kill()
    while rollout.env_steps < 100:
        rollout.collect(ByObservation())
    """
    memory = named_memory()
    process = script(tmp_path, temporary, make_env="Scripted", collect=kill, end=end)
    pids, _ = process.communicate(timeout=120)
    assert len(pids.split()) == 2, (tmp_path / "stderr").read_text()
    wait_for_the_end(pids.split())
    wait_until_nothing_is_left(temporary, memory)
    assert (tmp_path / "stderr").read_text() == ""
