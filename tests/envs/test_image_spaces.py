"""Images from environments: kept in shape and dtype by the adapters, and held to the contract."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium import spaces

from endmark.envs import ContractError, EnvError, Frame, GymAdapter, PettingZooAdapter, check
from endmark.episodes import Field
from endmark.policies import RandomPolicy
from endmark.rollout import InProcess, Lockstep, Workers
from support.helpers import assert_same_episodes
from support.walkers import Walkers

Array = npt.NDArray[Any]


def image_box(*shape: int, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(0, 255, shape, dtype)


class Noise(gym.Env[Any, Any]):
    """Random pictures; one agent, or a team if there are several spaces."""

    def __init__(self, *observed: spaces.Box) -> None:
        self.observed = observed
        one, several = observed[0], spaces.Tuple(observed)
        self.observation_space = one if len(observed) == 1 else several
        actions = [spaces.Discrete(2) for _ in observed]
        self.action_space = actions[0] if len(observed) == 1 else spaces.Tuple(actions)

    def see(self) -> Any:
        self.pictures = [
            self.np_random.integers(0, 256, space.shape).astype(space.dtype) for space in self.observed
        ]
        return self.pictures[0] if len(self.pictures) == 1 else tuple(self.pictures)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.see(), {}

    def step(self, action: Any) -> Any:
        reward = 0.0 if len(self.observed) == 1 else [0.0] * len(self.observed)
        return self.see(), reward, False, False, {}


class Team:
    """A PettingZoo environment of two agents that see pictures; the second leaves at step 2."""

    max_cycles = 4

    def __init__(self, state: Array) -> None:
        self.metadata, self.possible_agents, self._state = {"name": "team"}, ["a", "b"], state

    def observation_space(self, agent: str) -> spaces.Box:
        return image_box(8, 9, 3)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(2)

    def state(self) -> Array:
        return np.full_like(self._state, self.t)

    def see(self) -> dict[str, Array]:
        return {agent: np.full((8, 9, 3), 100 + self.t, np.uint8) for agent in self.agents}

    def reset(self, seed: int | None = None) -> Any:
        self.t, self.agents = 0, ["a", "b"]
        return self.see(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self.t += 1
        before = self.agents
        if self.t == 2:
            self.agents = ["a"]
        ended = {agent: agent not in self.agents for agent in before}
        cut = dict.fromkeys(before, self.t == 4)
        seen = {agent: np.full((8, 9, 3), 100 + self.t, np.uint8) for agent in before}
        return seen, dict.fromkeys(before, 0.0), ended, cut, {agent: {} for agent in before}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("n_agents", [1, 3])
@pytest.mark.parametrize("shape", [(8, 9, 3), (4, 16, 16)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_stay_as_they_are(dtype: Any, shape: tuple[int, ...], n_agents: int) -> None:
    raw = Noise(*[image_box(*shape, dtype=dtype)] * n_agents)
    env = GymAdapter(raw, episode_limit=5)
    kind = torch.uint8 if dtype == np.uint8 else torch.float32
    assert env.spec.fields["obs"] == Field((n_agents, *shape), kind)
    for frame in (env.reset(seed=0), env.step(np.zeros(n_agents, np.int64)).frame):
        assert frame.obs.dtype == dtype
        np.testing.assert_array_equal(frame.obs, np.stack(raw.pictures))


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([image_box(7, 7, 3)], 147),  # too small
        ([image_box(84)], 84),
        ([image_box(8, 9)], 72),
        ([image_box(8, 8, 3), image_box(9, 9, 3)], 243),  # of several sizes
    ],
)
def test_all_else_is_a_vector_of_floats(boxes: list[spaces.Box], size: int) -> None:
    raw = Noise(*boxes)
    env = GymAdapter(raw, episode_limit=5)
    assert env.spec.fields["obs"] == Field((len(boxes), size), torch.float32)
    frame = env.reset(seed=0)
    for row, picture in zip(frame.obs, raw.pictures, strict=True):
        np.testing.assert_array_equal(row[: picture.size], picture.ravel())
        assert not row[picture.size :].any()


def test_colours_of_several_dtypes_become_floats() -> None:
    env = GymAdapter(Noise(image_box(8, 8, 3), image_box(8, 8, 3, dtype=np.float32)), episode_limit=5)
    assert env.spec.fields["obs"] == Field((2, 8, 8, 3), torch.float32)


def test_what_is_no_colour_is_refused() -> None:
    raw = Noise(image_box(8, 9, 3))
    env = GymAdapter(raw, episode_limit=5)
    picture = np.zeros((8, 9, 3))
    picture[1, 2, 0] = 0.5
    raw.see = lambda: picture  # type: ignore[method-assign]
    with pytest.raises(
        ContractError, match=r"obs, agent 0, number \[1, 2, 0\]: given 0.5, want a whole number"
    ):
        env.reset()
    raw.see = lambda: picture[:7]  # type: ignore[method-assign]
    with pytest.raises(ContractError, match=r"obs, agent 0: given shape \(7, 9, 3\), want shape \(8, 9, 3\)"):
        env.reset()
    raw.see = lambda: (picture * 2).tolist()  # type: ignore[method-assign]
    assert env.reset().obs[0, 1, 2, 0] == 1


@pytest.mark.parametrize(
    ("state", "field"),
    [
        (np.zeros((20, 30, 3), np.uint8), Field((20, 30, 3), torch.uint8)),
        (np.zeros((20, 30, 3)), Field((20, 30, 3), torch.float32)),
        (np.zeros((2, 3), np.uint8), Field((6,), torch.float32)),
        (np.zeros(()), Field((1,), torch.float32)),
    ],
)
def test_a_team_of_pettingzoo(state: Array, field: Field) -> None:
    env = PettingZooAdapter(Team(state))
    assert env.spec.fields["obs"] == Field((2, 8, 9, 3), torch.uint8)
    assert env.spec.fields["state"] == field
    first = env.reset(seed=0)
    assert first.obs.dtype == np.uint8
    assert (first.obs == 100).all()
    for t in (1, 2, 3):
        frame = env.step(np.zeros(2, np.int64)).frame
        assert (frame.obs[0] == 100 + t).all()
        assert (frame.obs[1] == (100 + t if t < 2 else 0)).all()  # zeros once it has left
        assert frame.state is not None
        assert frame.state.shape == field.shape
        assert (frame.state == t).all()
    check(lambda: PettingZooAdapter(Team(state)), resets=5)


@pytest.mark.parametrize("channels_first", [False, True])
def test_the_walkers_keep_the_contract(channels_first: bool) -> None:
    report = check(partial(Walkers, channels_first), episodes=20, resets=10)
    assert report.episodes == 20


class Shown(Walkers):
    """Whose agents are still shown something when they have left."""

    def frame(self) -> Frame:
        frame = super().frame()
        frame.obs[~self.alive] = 1
        return frame


class Fractions(Walkers):
    """Whose pictures are float32, from 0 to 1, though the spec says uint8."""

    def frame(self) -> Frame:
        frame = super().frame()
        return frame._replace(obs=(frame.obs / 512).astype(np.float32))


def test_the_contract_of_images() -> None:
    with pytest.raises(EnvError, match=r"obs, agent \d: given numbers other than 0, want zeros"):
        check(Shown, episodes=40, resets=5)
    with pytest.raises(EnvError, match="obs: given dtype float32, want dtype uint8"):
        check(Fractions, resets=5)
    rollout_of_fractions = InProcess([Fractions()])
    with pytest.raises(
        EnvError, match=r"frame 0, obs, agent 0, number .*: given 0.498.*, want a whole number"
    ):
        Lockstep(rollout_of_fractions, [0])


def test_bytes_from_worker_processes() -> None:
    """And the same episodes as in this process."""

    def played(envs: Any) -> Any:
        rollout, policy = Lockstep(envs, range(6)), RandomPolicy(torch.Generator().manual_seed(0))
        batch = rollout.collect(policy)
        envs.close()
        return batch

    here = played(InProcess([Walkers(), Walkers()]))
    there = played(Workers(Walkers, Walkers().spec, workers=2, envs_per_worker=1, timeout=60.0))
    assert here.obs.dtype == torch.uint8
    assert int(here.obs.max()) == 255
    assert_same_episodes(there, here)
