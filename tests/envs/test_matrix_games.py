"""Matrix games pay what their matrices say, and end where they say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from endmark.algorithms import QMIXConfig, VDNConfig
from endmark.envs import EnvError, check, make
from endmark.envs.matrix_games import MatrixGame
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, play, summarise


def paid(env_id: str, *joint_actions: tuple[int, int], **kwargs: Any) -> list[float]:
    """The rewards of an episode, which these actions end."""
    env = make(env_id, **kwargs)
    env.reset(seed=3)
    steps = [env.step(np.array(actions)) for actions in joint_actions]
    assert [step.end for step in steps] == [*[None] * (len(steps) - 1), "terminated"]
    return [float(step.reward) for step in steps]


def matrix(env_id: str, n_actions: int, **kwargs: Any) -> list[list[float]]:
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
def test_a_bad_argument_is_named(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvError, match=words):
        make("matrix:penalty", **kwargs)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("kind", "greedy_return"), [(QMIXConfig, 8), (VDNConfig, 7)])
def test_qmix_solves_the_two_step_game_and_vdn_does_not(
    kind: type[QMIXConfig | VDNConfig], greedy_return: int, seed: int
) -> None:
    """Rashid et al. (2018), section 5: under full exploration, so that every joint action counts alike.

    The target takes one step: a λ-return over random actions would be the value of the random policy.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = kind(
        epsilon_end=1.0, td_lambda=0.0, agent="feedforward", last_action=False, lr=5e-3, target_tau=0.05
    )
    envs = InProcess([make("matrix:two-step") for _ in range(8)])
    learner = config.learner(make("matrix:two-step").spec, torch.device("cpu"))
    store = config.store(learner.spec, generator, None)
    policy = learner.policy(learner.actor, 8, generator)
    rollout = Lockstep(envs, EpisodeSeeds(seed), learner.spec)
    while learner.updates < 200:
        policy.schedule(rollout.env_steps)
        store.add(rollout.collect(policy))
        for batch in store.due():
            learner.update(batch)
    game = InProcess([make("matrix:two-step")])
    assert summarise(play(game, learner.greedy_policy(1), [0])).return_mean == greedy_return
