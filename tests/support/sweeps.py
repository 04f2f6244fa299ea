"""Sweeps as programs of their own: started, killed, and their runs compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from endmark.run import BEST, REPLAY, WEIGHTS, is_finished, read_config, read_metrics
from endmark.training.final import FINAL

SMALL = """
[settings]
hidden_size = 8
batch_size = 4
n_envs = 2
eval_episodes = 2
save_every = 0.05
"""


def start(*args: str | Path) -> subprocess.Popen[str]:
    """`endmark sweep` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "endmark", "sweep", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], status: int = 0, seconds: float = 300) -> str:
    """What it printed, once it has ended with this exit status."""
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == status, said
    return said


def session_of(process: subprocess.Popen[str]) -> list[int]:
    """Itself, and all processes that it has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # pid (name) state parent group session ...; a name may hold spaces
            text = path.read_text()
            _, _, rest = text.rpartition(") ")
            if rest[0] != "Z" and int(rest.split()[3]) == process.pid:
                found.append(int(path.parent.name))
    return found


def kill(process: subprocess.Popen[str], *, alone: bool) -> None:
    """SIGKILL for the sweep alone, or for it and its cells."""
    victims = [process.pid] if alone else session_of(process)
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)


def runs_in(directory: Path) -> list[str]:
    """The names of the runs."""
    return sorted(path.parent.name for path in directory.glob("*/config.json"))


def assert_same_runs(given: Path, want: Path) -> None:
    """All runs are finished, and all files that a run leaves are the same but for the seconds."""
    assert runs_in(given) == runs_in(want)
    for name in runs_in(want):
        ours, theirs = given / name, want / name
        assert is_finished(ours), name
        assert is_finished(theirs), name
        assert read_config(ours) == read_config(theirs), name
        assert lines_of(ours) == lines_of(theirs), name
        for file in (WEIGHTS, BEST, REPLAY, FINAL):
            assert (ours / file).exists() == (theirs / file).exists(), (name, file)
            if (ours / file).exists():
                assert (ours / file).read_bytes() == (theirs / file).read_bytes(), (name, file)


def lines_of(run: Path) -> list[dict[str, float | None]]:
    """The metrics but for the time that passed."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run)]
