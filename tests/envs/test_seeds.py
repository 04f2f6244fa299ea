"""An episode is a function of its seed and its actions, whatever the environment did before."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from endmark.envs import Environment, Frame, make

SEEDS = range(100)  # Level-Based Foraging without `clear` starts differently in some 3 to 9 of them
EVERY_FAMILY: list[tuple[str, dict[str, Any]]] = [
    ("lbforaging:Foraging-5x5-2p-1f-v3", {}),
    ("lbforaging:Foraging-8x8-2p-2f-coop-v3", {}),
    ("rware:rware-tiny-2ag-v2", {"max_steps": 30}),
    ("mpe2.simple_spread_v3", {}),
    ("mpe2.simple_speaker_listener_v4", {}),
    ("mpe2.simple_reference_v3", {}),
    ("mpe2.simple_adversary_v3", {}),
    ("mpe2.simple_tag_v3", {}),
    ("CartPole-v1", {}),
    ("FrozenLake-v1", {}),
]
every_family = pytest.mark.parametrize(
    ("env_id", "kwargs"), EVERY_FAMILY, ids=[env_id for env_id, _ in EVERY_FAMILY]
)
Arrays = list[npt.NDArray[Any]]


def arrays(frame: Frame) -> Arrays:
    return [array.copy() for array in frame if array is not None]


def same(given: Arrays, want: Arrays) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(given, want, strict=True))


def episode(env: Environment, seed: int) -> Arrays:
    """All frames, rewards and ends of the episode with this seed and random actions from the same seed."""
    actions = np.random.default_rng(seed)
    frame, over = env.reset(seed=seed), False
    played = arrays(frame)
    while not over:
        chosen = actions.integers(0, frame.legal.sum(axis=1))  # all actions are legal in these
        step = env.step(np.asarray(chosen))
        frame, over = step.frame, step.terminated or step.truncated
        played += [*arrays(frame), np.array(step.reward), np.array([step.terminated, step.truncated])]
    return played


@every_family
def test_the_first_frame_is_that_of_a_fresh_environment(env_id: str, kwargs: dict[str, Any]) -> None:
    used = make(env_id, **kwargs)
    differ = []
    for seed in SEEDS if env_id.startswith("lbforaging") else SEEDS[:20]:
        episode(used, 1000 + seed)
        fresh = make(env_id, **kwargs)
        if not same(arrays(used.reset(seed=seed)), arrays(fresh.reset(seed=seed))):
            differ.append(seed)
        fresh.close()
    used.close()
    assert differ == []


@every_family
def test_the_whole_episode_is_that_of_a_fresh_environment(env_id: str, kwargs: dict[str, Any]) -> None:
    used = make(env_id, **kwargs)
    differ = []
    for seed in SEEDS[:10]:
        fresh = make(env_id, **kwargs)
        if not same(episode(used, seed), episode(fresh, seed)):
            differ.append(seed)
        fresh.close()
    used.close()
    assert differ == []


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_an_episode_that_is_left_in_the_middle_leaves_nothing_behind(steps: int) -> None:
    env_id = "lbforaging:Foraging-5x5-2p-1f-v3"
    used, fresh = make(env_id), make(env_id)
    for seed in SEEDS:
        used.reset(seed=1000 + seed)
        for _ in range(steps):
            used.step(np.array([1, 2]))
        fresh.close()
        fresh = make(env_id)
        assert same(arrays(used.reset(seed=seed)), arrays(fresh.reset(seed=seed))), f"seed {seed}"


def test_without_the_adapter_an_episode_depends_on_the_last_one() -> None:
    """If this fails, Level-Based Foraging has been mended, and `clear` in its entry can go."""
    differ = 0
    used: Any = gym.make("lbforaging:Foraging-5x5-2p-1f-v3", disable_env_checker=True)
    for seed in SEEDS:
        fresh: Any = gym.make("lbforaging:Foraging-5x5-2p-1f-v3", disable_env_checker=True)
        differ += not np.array_equal(used.reset(seed=seed)[0], fresh.reset(seed=seed)[0])
    assert differ > 0
