"""Environments whose actions are vectors: their spaces, their ends, and what they are given."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium import spaces

from endmark.envs import EnvError, GymAdapter, check, make, make_batched
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.spaces import bounds_of
from endmark.episodes import Bounds
from endmark.policies import RandomPolicy
from endmark.rollout import play


class Noted(gym.Env[Any, Any]):
    """One agent; notes what it is given. Its action has two axes, in float64."""

    def __init__(self, space: spaces.Space[Any] | None = None) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = space or spaces.Box(-2.0, 3.0, (2, 2), np.float64)
        self.given: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.given.append(action)
        return np.zeros(2, np.float32), 1.0, False, False, {}


class Unequal:
    """Two agents, one with three numbers and one with one; agent b leaves after the first step."""

    metadata: ClassVar[dict[str, Any]] = {"name": "unequal"}
    possible_agents = ("a", "b")
    max_cycles = 4

    def __init__(self) -> None:
        self.given: list[dict[str, npt.NDArray[Any]]] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (3,), np.float32) if agent == "a" else spaces.Box(0, 5, (1,), np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.t, self.agents = 0, ["a", "b"]
        return {agent: np.ones(2, np.float32) for agent in self.agents}, {"a": {}, "b": {}}

    def step(self, actions: dict[str, npt.NDArray[Any]]) -> Any:
        self.given.append(actions)
        self.t += 1
        here, self.agents = self.agents, ["a"] if self.t < 4 else []
        flags = {agent: agent not in self.agents for agent in here}
        obs = {agent: np.ones(2, np.float32) for agent in here}
        none = dict.fromkeys(here, False)
        rewards = dict.fromkeys(here, 2.0)
        return obs, rewards, none if self.t == 4 else flags, flags if self.t == 4 else none, {}

    def close(self) -> None:
        pass


def test_a_box_gets_its_own_shape_and_dtype_in_memory_of_its_own() -> None:
    raw = Noted()
    env = GymAdapter(raw, episode_limit=3)
    assert env.spec.bounds == Bounds.of([-2.0] * 4, [3.0] * 4, 1)
    frame = env.reset(seed=0)
    assert frame.avail_actions is None
    with pytest.raises(ValueError, match="avail_actions: given none"):
        assert frame.legal is None
    actions = np.array([[-2.0, 0.5, 1.0, 3.0]], np.float32)
    env.step(actions)
    actions[:] = 9
    (given,) = raw.given
    assert given.dtype == np.float64
    assert given.tolist() == [[-2.0, 0.5], [1.0, 3.0]]


def test_unequal_agents_get_as_many_numbers_as_they_have() -> None:
    raw = Unequal()
    env = PettingZooAdapter(raw)
    assert env.spec.bounds == Bounds(((-1.0,) * 3, (0.0, 0.0, 0.0)), ((1.0,) * 3, (5.0, 0.0, 0.0)))
    env.reset()
    step = env.step(np.array([[0.1, 0.2, 0.3], [4.0, 0.0, 0.0]], np.float32))
    assert {agent: len(action) for agent, action in raw.given[0].items()} == {"a": 3, "b": 1}
    assert raw.given[0]["b"].tolist() == [4.0]
    assert step.frame.alive.tolist() == [True, False]
    env.step(np.zeros((2, 3), np.float32))
    assert raw.given[1].keys() == {"a"}, "what an agent that has left does is not passed on"


def test_a_shared_reward_is_stored_once() -> None:
    env = PettingZooAdapter(Unequal(), shared_reward=True)
    assert not env.spec.reward_per_agent
    env.reset()
    for _ in range(4):
        step = env.step(np.zeros((2, 3), np.float32))
        assert step.reward == np.float32(2.0)
        assert step.reward.shape == ()
    assert step.end == "truncated"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([spaces.Box(-np.inf, np.inf, (2,))], "action space: given Box.*, want a Box of floats with finite"),
        ([spaces.Box(0, 1, (2,), np.int64)], "want a Box of floats"),
        ([spaces.Box(0, 1, ())], "want a Box of floats"),
        ([spaces.Box(0, 1, (2,)), spaces.Discrete(3)], "given some Boxes and some others, want one kind"),
        ([spaces.Box(-1e300, 1e300, (1,), np.float64)], r"number 0: given -1e\+300 to 1e\+300"),
    ],
)
def test_boxes_that_cannot_be_used(given: list[spaces.Space[Any]], message: str) -> None:
    with pytest.raises(EnvError, match=message) as caught:
        bounds_of(given)
    assert "\n" not in str(caught.value)


def test_a_mask_means_nothing_beside_a_vector() -> None:
    env = GymAdapter(Noted(), episode_limit=3)
    with pytest.raises(EnvError, match=r"action_mask, agent 0: given .*, want none: actions are vectors"):
        env._frame(np.zeros(2, np.float32), {"action_mask": np.ones(4, np.int8)})


MPE: dict[str, Any] = {"continuous_actions": True}
CONTINUOUS = [
    ("Pendulum-v1", {}),
    ("mpe2.simple_spread_v3", MPE),
    ("mpe2.simple_speaker_listener_v4", MPE),
    ("mamujoco:HalfCheetah-2x3", {"episode_limit": 30}),
    ("mamujoco:Ant-2x4", {"episode_limit": 30}),
    ("mamujoco:Humanoid-9|8", {"episode_limit": 10}),
]


@pytest.mark.parametrize(("env_id", "options"), CONTINUOUS, ids=[env_id for env_id, _ in CONTINUOUS])
def test_the_contract_holds(env_id: str, options: dict[str, Any]) -> None:
    pytest.importorskip("gymnasium_robotics") if env_id.startswith("mamujoco") else None
    report = check(partial(make, env_id, **options), episodes=2, resets=10)
    assert report.episodes == 2


def test_mamujocos_own_limit_is_a_cut_and_a_fall_is_an_end() -> None:
    pytest.importorskip("gymnasium_robotics")
    env = make("mamujoco:HalfCheetah-2x3")
    assert env.spec.episode_limit == 1000
    assert env.spec.n_agents == 2
    assert env.spec.fields["reward"].shape == ()
    assert env.spec.fields["state"].shape == (17,)
    env.reset(seed=0)
    ends = [env.step(np.zeros((2, 3), np.float32)).end for _ in range(1000)]
    assert ends == [None] * 999 + ["truncated"]
    env.close()

    falls = make("mamujoco:Hopper-3x1")
    falls.reset(seed=0)
    end = None
    for _ in range(300):
        if (end := falls.step(np.ones((3, 1), np.float32)).end) is not None:
            break
    assert end == "terminated"
    falls.close()


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        (
            "Cheetah-2x3",
            {},
            "unknown environment 'mamujoco:Cheetah-2x3': did you mean mamujoco:HalfCheetah-2x3",
        ),
        ("HalfCheetah", {}, "'mamujoco:HalfCheetah': given no division among agents, want one"),
        (
            "HalfCheetah-9x9",
            {},
            "'mamujoco:HalfCheetah-9x9' cannot be made: .*UNKNOWN partitioning config: 9x9",
        ),
        ("HalfCheetah-2x3", {"agent_conf": "6x1"}, "agent_conf: given twice, want it in the id alone"),
        ("HalfCheetah-2x3", {"colour": 3}, "'mamujoco:HalfCheetah-2x3' cannot be made"),
        ("HalfCheetah-2x3", {"episode_limit": 0}, "episode limit: given 0, want at least 1"),
    ],
)
def test_mamujoco_ids_that_are_none(name: str, kwargs: dict[str, Any], message: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    with pytest.raises(EnvError, match=message) as caught:
        make(f"mamujoco:{name}", **kwargs)
    assert "\n" not in str(caught.value)


def test_continuous_vmas_as_one_program_and_alone() -> None:
    """An episode is the same beside others; messages are numbers that moves have not."""
    vmas = pytest.importorskip("vmas")
    assert vmas
    for name in ("balance", "simple_speaker_listener"):
        envs = make_batched(f"vmas:{name}", 3, continuous_actions=True, max_steps=12)
        assert envs is not None
        assert envs.spec.bounds is not None
        assert "avail_actions" not in envs.spec.fields
        policy = RandomPolicy(torch.Generator().manual_seed(0), envs.spec.bounds)
        batch = play(envs, policy, range(5))
        low, high = envs.spec.bounds.tensors()
        actions = batch.steps("actions")
        assert ((actions >= low) & (actions <= high)).all()
        alone = make(f"vmas:{name}", continuous_actions=True, max_steps=12)
        (first, *_) = batch.split()
        alone.reset(seed=0)
        for t, chosen in enumerate(first.steps("actions").numpy()):
            step = alone.step(chosen)
            np.testing.assert_allclose(step.frame.obs, first.obs[t + 1].numpy(), rtol=1e-5, atol=1e-6)
