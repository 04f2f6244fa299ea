"""Matrix games pay what their matrices say, and end where they say."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from endmark.envs import EnvError, check, make
from endmark.envs.matrix_games import MatrixGame


def paid(env_id: str, *joint_actions: tuple[int, int], **kwargs: object) -> list[float]:
    """The rewards of an episode, which these actions end."""
    env = make(env_id, **kwargs)
    env.reset(seed=3)
    steps = [env.step(np.array(actions)) for actions in joint_actions]
    assert [step.end for step in steps] == [*[None] * (len(steps) - 1), "terminated"]
    return [float(step.reward) for step in steps]


def matrix(env_id: str, n_actions: int, **kwargs: object) -> list[list[float]]:
    return [[paid(env_id, (a, b), **kwargs)[0] for b in range(n_actions)] for a in range(n_actions)]


def test_one_step_games() -> None:
    assert matrix("matrix:climbing", 3) == [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
    assert matrix("matrix:penalty", 3) == [[10, 0, -100], [0, 2, 0], [-100, 0, 10]]
    assert matrix("matrix:penalty", 3, k=-5) == [[10, 0, -5], [0, 2, 0], [-5, 0, 10]]


@pytest.mark.parametrize("other", [0, 1])
def test_agent_0_chooses_the_matrix_of_the_second_step(other: int) -> None:
    second = [(a, b) for a in range(2) for b in range(2)]
    assert [paid("matrix:two-step", (0, other), actions) for actions in second] == [[0, 7]] * 4
    assert [paid("matrix:two-step", (1, other), actions)[1] for actions in second] == [0, 1, 1, 8]


def test_both_agents_see_the_state() -> None:
    env = make("matrix:two-step")
    frames = [env.reset(), env.step(np.array([1, 0])).frame, env.step(np.array([1, 1])).frame]
    for frame, state in zip(frames, [[1, 0, 0], [0, 0, 1], [0, 0, 0]], strict=True):
        np.testing.assert_array_equal(frame.state, state)
        np.testing.assert_array_equal(frame.obs, [state, state])


@pytest.mark.parametrize(("env_id", "steps"), [("climbing", 1), ("penalty", 1), ("two-step", 2)])
def test_they_keep_to_the_contract(env_id: str, steps: int) -> None:
    report = check(partial(make, f"matrix:{env_id}"), episodes=5)
    assert (report.mean_length, report.terminated) == (steps, 5)


def test_a_lower_limit_cuts_the_game() -> None:
    env = make("matrix:two-step", episode_limit=1)
    env.reset()
    assert env.step(np.array([0, 0])).truncated


def test_the_longest_way_through_the_states_is_the_limit() -> None:
    nothing = [[0, 0], [0, 0]]
    assert MatrixGame([nothing] * 4, [[1, -1], [2, 3], [3, -1], [-1, -1]]).spec.episode_limit == 4


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"k": 3}, "'matrix:penalty': k: given 3, want a number from -1e6 to 0"),
        ({"k": "low"}, "'matrix:penalty': k: given 'low', want a number"),
        ({"k": float("nan")}, "'matrix:penalty': k: given nan, want a number"),
        ({"fine": 1}, "'matrix:penalty' takes no argument 'fine': it takes k"),
    ],
)
def test_a_bad_argument_is_named(kwargs: dict[str, object], words: str) -> None:
    with pytest.raises(EnvError, match=words):
        make("matrix:penalty", **kwargs)
