"""The table of peak memory: every case at tiny shapes, and one of them measured in another process."""

from __future__ import annotations

import pytest
from benchmarks.memory import CASES, measured, peak
from benchmarks.shapes import TINY


@pytest.mark.parametrize("case", CASES)
def test_every_case_runs_and_so_does_what_it_is_compared_with(case: str) -> None:
    _, ours, other = CASES[case]
    before = peak()
    ours(TINY, 200)
    if other is not None:
        other(TINY, 200)
    assert peak() >= before > 0


def test_a_case_is_measured_in_another_process() -> None:
    assert 0 <= measured("training", baseline=True, quick=True) < 2**28
