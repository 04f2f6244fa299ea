"""Runs that are killed at a write, a flush or a rename, or whose disk is full, lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endmark.run import BEST, CONFIG, REPLAY, WEIGHTS, read_metrics
from endmark.training.final import FINAL
from endmark.training.state_file import STATE
from support.trials import WHOLE

RUN = (
    "train qmix --env lbforaging:Foraging-5x5-2p-1f-v3 --steps 400 --n-envs 3 --hidden-size 8 --batch-size 2 "
    "--replay-frames 300 --epsilon-steps 300 --log-every 60 --eval-every 150 --eval-episodes 2 "
    "--final-episodes 2 --save-every 1e-9 --run-dir"
)


class Fatal:
    """The program `support.fatal`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.fatal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        # Read at once: the pipe is full after some runs, and then they wait.
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._printed += self._process.stderr

    def run(self, command: str, path: Path, fatal: int | None = None, n_bytes: int | None = None) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([[*command.split(), str(path)], fatal, n_bytes]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> str:
        """End it; what was printed."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._reader.join()
        return "".join(self._printed)


@pytest.fixture
def fatal() -> Iterator[Fatal]:
    program = Fatal()
    yield program
    program.close()


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(directory)]


def assert_same_run(given: Path, want: Path) -> None:
    assert lines_of(given) == lines_of(want)
    for name in (WEIGHTS, BEST, REPLAY, FINAL):
        assert (given / name).read_bytes() == (want / name).read_bytes(), name
    assert not list(given.glob("*.unfinished"))


@pytest.mark.slow
def test_a_kill_at_any_change_of_the_disk_loses_nothing(fatal: Fatal, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert fatal.run(RUN, whole) == 0
    moments = range(10_000) if WHOLE else range(1, 90, 16)
    kills = 0
    for moment in moments:
        killed = tmp_path / str(moment)
        status = fatal.run(RUN, killed, moment)
        if status == 0:  # it has fewer moments
            break
        assert status == -9, moment
        kills += 1
        if (killed / CONFIG).exists():
            assert fatal.run("resume", killed) == 0, moment
        else:
            assert not (killed / STATE).exists()
            assert fatal.run(RUN, killed) == 0, moment
        assert_same_run(killed, whole)
    assert kills >= 5
    print(f"{kills} kills at writes, flushes and renames: every run ended as one never killed")


@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_one_line_and_a_state(fatal: Fatal, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert fatal.run(RUN, whole) == 0
    sizes = [path.stat().st_size for path in (whole / CONFIG, whole / WEIGHTS, whole / STATE)]
    resumed = 0
    between = [sizes[1] + 20_000, sizes[2] - 10_000] if WHOLE else []
    limits = [0, *(size - 1 for size in sizes), *between]
    for n_bytes in limits:
        full = tmp_path / str(n_bytes)
        assert fatal.run(RUN, full, n_bytes=n_bytes) == 2, n_bytes
        if (full / CONFIG).exists():
            assert fatal.run("resume", full) == 0, n_bytes
            resumed += 1
        else:
            assert fatal.run(RUN, full) == 0
        assert_same_run(full, whole)
    assert resumed >= (4 if WHOLE else 2)
    errors = [line for line in fatal.close().splitlines() if line.startswith("endmark:")]
    assert len(errors) == len(limits)
