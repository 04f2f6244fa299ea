"""The scripts of `benchmarks.spread`: the better they share the landmarks out, the more they collect."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.spread import SCRIPTS, mean_return, nearest, numbered, shortest, towards


def test_who_goes_where() -> None:
    agents, landmarks = np.array([[0.0, 0.0], [0.2, 0.0]]), np.array([[1.0, 0.0], [0.3, 0.0]])
    assert nearest(agents, landmarks).tolist() == [[0.3, 0.0], [0.3, 0.0]]
    assert numbered(agents, landmarks).tolist() == landmarks.tolist()
    assert shortest(np.array([[0.9, 0.0], [0.0, 0.1]]), landmarks).tolist() == landmarks.tolist()
    assert shortest(np.array([[0.0, 0.1], [0.9, 0.0]]), landmarks).tolist() == landmarks[::-1].tolist()


def test_it_pushes_towards_its_goal_and_brakes() -> None:
    goal = np.array([1.0, 0.0])
    assert towards(goal, np.zeros(2), np.zeros(2)) == 2  # to the right
    assert towards(goal, goal, np.array([2.0, 0.0])) == 1
    assert towards(goal, goal, np.zeros(2)) == 0


def test_what_they_collect() -> None:
    pytest.importorskip("mpe2")
    collected = [mean_return(script, 20) for script in SCRIPTS]
    assert collected == sorted(collected)
    assert len({*collected}) == len(SCRIPTS)
