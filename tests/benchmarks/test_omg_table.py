"""The tables of docs/omg.md, where the figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.omg import METHODS, REST, TASKS, interval, table
from benchmarks.pool import GAMES, SEEDS


def test_an_interval_is_over_seeds_and_partners() -> None:
    assert interval(np.full((5, 4), 0.25)) == (0.25, 0.25, 0.25)
    by_partner = np.tile([0.0, 1.0], (5, 1))  # all seeds agree, partners do not
    mean, low, high = interval(by_partner)
    assert mean == 0.5
    assert low == 0.0
    assert high == 1.0
    many = np.tile(np.arange(40.0) % 2, (5, 1))
    assert 0.3 < interval(many)[1] < 0.4 < 0.6 < interval(many)[2] < 0.7  # ± 1.96 * 0.5 / sqrt(40)


def test_a_gain_is_paired_and_of_the_seeds_that_both_have() -> None:
    draw = np.random.default_rng(0)
    base = {group: draw.normal(size=(5, 3, 2)) for group in SEEDS}
    better = {group: cells[:4] + np.array([0.1, 0.0]) for group, cells in base.items()}
    lines = table({"none": base, "omg": better}, "return")
    assert lines[2].startswith("| `none` | 5 |")
    assert lines[2].endswith("|  |  |")
    assert lines[3].startswith("| `omg` | 4 |")
    assert lines[3].endswith("| +0.100 (+0.100 to +0.100) | +0.100 (+0.100 to +0.100) |")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_pool_and_known_methods(task: str) -> None:
    assert task in GAMES
    assert TASKS[task].tried[0] == "none"
    assert set(TASKS[task].tried) <= METHODS.keys() - set(REST)
