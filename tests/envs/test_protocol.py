"""A step has one end or none."""

from __future__ import annotations

import numpy as np
import pytest

from endmark.envs import End, Frame, Step

FRAME = Frame(np.zeros((1, 2), np.float32), np.ones((1, 2), np.bool_), np.ones(1, np.bool_))


@pytest.mark.parametrize(
    ("end", "terminated", "truncated"),
    [(None, False, False), ("terminated", True, False), ("truncated", False, True)],
)
def test_the_end_says_which_flag_is_true(end: End | None, terminated: bool, truncated: bool) -> None:
    step = Step(FRAME, np.float32(1), end)
    assert step.terminated is terminated
    assert step.truncated is truncated
    assert step._replace(reward=np.float32(2)).end == end


def test_a_step_goes_on_by_default() -> None:
    step = Step(FRAME, np.float32(1))
    assert step.end is None
    assert step.outcomes == {}
    with pytest.raises(TypeError):
        step.outcomes["win"] = 1.0  # type: ignore[index]


def test_both_flags_cannot_be_given() -> None:
    with pytest.raises(TypeError):
        Step(FRAME, np.float32(1), terminated=True, truncated=True)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Step(FRAME, np.float32(1)).terminated = True  # type: ignore[misc]
