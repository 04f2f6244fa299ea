"""Every environment is closed, and only once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from endmark.rollout import InProcess, Lockstep, Workers
from support.scripted import ByObservation, Scripted
from support.troubled import LeavesANote


class Counts(Scripted):
    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("n_steps", [0, 5])
def test_in_process(n_steps: int) -> None:
    environments = [Counts() for _ in range(3)]
    envs = InProcess(environments)
    rollout = Lockstep(envs, range(50))
    for _ in range(n_steps):
        rollout.collect(ByObservation())
    assert [env.closed for env in environments] == [0, 0, 0]
    envs.close()
    envs.close()
    assert [env.closed for env in environments] == [1, 1, 1]


@pytest.mark.parametrize("n_steps", [0, 5])
def test_workers(n_steps: int, tmp_path: Path) -> None:
    envs = Workers(partial(LeavesANote, tmp_path), Scripted().spec, workers=2, envs_per_worker=3)
    rollout = Lockstep(envs, range(50))
    for _ in range(n_steps):
        rollout.collect(ByObservation())
    assert list(tmp_path.iterdir()) == []
    envs.close()
    envs.close()
    assert [note.read_text() for note in tmp_path.iterdir()] == ["x"] * 6
