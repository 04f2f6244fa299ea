"""Gymnasium environments behind the protocol, and ends that are put right."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces

from endmark.envs import EnvError, Environment, GymAdapter, Step, check, make

LBF = "lbforaging:Foraging-8x8-2p-2f-coop-v3"
EASY_LBF = "lbforaging:Foraging-5x5-2p-1f-v3"
RWARE = "rware:rware-tiny-2ag-v2"


def play(env: Environment, seed: int, actions: npt.NDArray[np.int64]) -> tuple[int, Step]:
    """The length and the last step of an episode with these actions, [T, N]."""
    env.reset(seed=seed)
    for t, chosen in enumerate(actions):
        step = env.step(chosen)
        if step.terminated or step.truncated:
            return t + 1, step
    raise AssertionError(f"an episode longer than {len(actions)} steps")


def random_actions(env: Environment, seed: int) -> npt.NDArray[np.int64]:
    """Actions for the longest episode, all of them legal where every action always is."""
    shape = (env.spec.episode_limit, env.spec.n_agents)
    return np.random.default_rng(seed).integers(0, env.spec.n_actions, shape)


# --- Level-Based Foraging and the Robotic Warehouse: a step limit that is reported as an end ---


@pytest.mark.parametrize(
    ("env_id", "limit", "obs", "n_actions"), [(LBF, 50, (2, 12), 6), (RWARE, 500, (2, 71), 5)]
)
def test_a_tuple_over_agents(env_id: str, limit: int, obs: tuple[int, int], n_actions: int) -> None:
    env = make(env_id)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (2, n_actions, limit)
    assert spec.fields["obs"].shape == obs
    assert spec.reward_per_agent
    assert "state" not in spec.fields
    frame = env.reset(seed=3)
    assert frame.legal.all()
    assert frame.alive.all()
    raw = gym.make(env_id, disable_env_checker=True)
    np.testing.assert_array_equal(frame.obs, np.stack(raw.reset(seed=3)[0]))
    step = env.step(np.array([1, 2]))
    np.testing.assert_array_equal(step.frame.obs, np.stack(raw.step((1, 2))[0]))


@pytest.mark.parametrize(("env_id", "limit"), [(LBF, 50), (RWARE, 500)])
def test_the_own_limit_is_a_truncation(env_id: str, limit: int) -> None:
    raw = gym.make(env_id, disable_env_checker=True)
    raw.reset(seed=0)
    for _ in range(limit):
        *_, terminated, truncated, _ = raw.step((0, 0))
    assert (terminated, truncated) == (True, False)  # what the environment says

    length, step = play(make(env_id), seed=0, actions=np.zeros((limit, 2), np.int64))
    assert length == limit
    assert (step.terminated, step.truncated) == (False, True)  # what is true


def early_end() -> tuple[int, npt.NDArray[np.int64], int]:
    """A seed, actions and a length of a foraging episode whose food is gone well before the limit."""
    env = make(EASY_LBF)
    for seed in range(100):
        actions = random_actions(env, seed)
        length, _ = play(env, seed, actions)
        if 5 < length < 40:
            return seed, actions, length
    raise AssertionError("no episode ended early")


def test_foraging_ends_when_the_food_is_gone() -> None:
    seed, actions, length = early_end()
    _, step = play(make(EASY_LBF), seed, actions)
    assert (step.terminated, step.truncated) == (True, False)
    assert step.reward.sum() > 0
    assert length < 50


@pytest.mark.parametrize("whose", ["the environment's limit", "the adapter's limit"])
def test_the_last_food_at_the_last_step_is_an_end(whose: str) -> None:
    seed, actions, length = early_end()
    for limit, terminated in [(length, True), (length - 1, False)]:
        if whose == "the adapter's limit":
            env: Environment = make(EASY_LBF, episode_limit=limit)
        else:
            raw: Any = gym.make(EASY_LBF, disable_env_checker=True)
            raw.unwrapped._max_episode_steps = limit
            env = GymAdapter(raw)
        assert env.spec.episode_limit == limit
        steps, step = play(env, seed, actions)
        assert steps == limit
        assert (step.terminated, step.truncated) == (terminated, not terminated)


def test_a_cut_for_idleness_is_a_truncation() -> None:
    env = make(RWARE, max_inactivity_steps=7)
    length, step = play(env, seed=0, actions=np.zeros((500, 2), np.int64))
    assert (length, step.terminated, step.truncated) == (7, False, True)
    assert env.spec.episode_limit == 500


def test_the_lowest_limit_counts() -> None:
    assert make(LBF, episode_limit=1000).spec.episode_limit == 50
    assert make(LBF, episode_limit=20).spec.episode_limit == 20
    assert make(LBF, max_episode_steps=30).spec.episode_limit == 30  # Gymnasium's own wrapper
    assert make(RWARE, max_steps=None, episode_limit=9).spec.episode_limit == 9
    with pytest.raises(EnvError, match="--episode-limit"):
        make(RWARE, max_steps=None)


@pytest.mark.parametrize("options", [{"episode_limit": 20}, {"max_episode_steps": 20}])
def test_a_lower_limit_is_kept_to(options: dict[str, Any]) -> None:
    length, step = play(make(LBF, **options), seed=0, actions=np.zeros((50, 2), np.int64))
    assert (length, step.terminated, step.truncated) == (20, False, True)


# --- One agent ---


def test_a_single_agent() -> None:
    env = make("CartPole-v1")
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (1, 2, 500)
    assert spec.fields["obs"].shape == (1, 4)
    assert not spec.reward_per_agent
    length, step = play(env, seed=0, actions=np.ones((500, 1), np.int64))
    assert length < 20
    assert (step.terminated, step.truncated) == (True, False)
    assert step.reward.shape == ()
    assert step.reward == 1.0


@pytest.mark.parametrize("options", [{"episode_limit": 5}, {"max_episode_steps": 5}])
def test_a_single_agent_is_cut_off(options: dict[str, Any]) -> None:
    env = make("CartPole-v1", **options)
    assert env.spec.episode_limit == 5
    length, step = play(env, seed=0, actions=np.ones((500, 1), np.int64))
    assert (length, step.terminated, step.truncated) == (5, False, True)


def test_an_end_at_the_limit_has_terminated() -> None:
    fall, _ = play(make("CartPole-v1"), seed=0, actions=np.ones((500, 1), np.int64))
    for options in ({"episode_limit": fall}, {"max_episode_steps": fall}):
        length, step = play(make("CartPole-v1", **options), seed=0, actions=np.ones((500, 1), np.int64))
        assert (length, step.terminated, step.truncated) == (fall, True, False)


def test_discrete_observations_are_one_hot() -> None:
    env = make("FrozenLake-v1", is_slippery=False)
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.obs, np.eye(16, dtype=np.float32)[[0]])
    step = env.step(np.array([1]))  # down
    np.testing.assert_array_equal(step.frame.obs, np.eye(16, dtype=np.float32)[[4]])


def test_other_observations_are_flattened() -> None:
    env = make("Blackjack-v1", episode_limit=30)
    assert env.spec.fields["obs"].shape == (1, 32 + 11 + 2)
    assert env.reset(seed=0).obs.sum() == 3.0  # three one-hots


def test_legal_actions_of_a_single_agent() -> None:
    env = make("Taxi-v4")
    frame = env.reset(seed=0)
    raw = gym.make("Taxi-v4", disable_env_checker=True)
    _, info = raw.reset(seed=0)
    np.testing.assert_array_equal(frame.avail_actions, [info["action_mask"] == 1])
    assert not frame.legal.all()
    move = int(np.flatnonzero(frame.legal[0])[0])
    np.testing.assert_array_equal(
        env.step(np.array([move])).frame.avail_actions, [raw.step(move)[4]["action_mask"] == 1]
    )


# --- Agents that differ ---


class Unlike(gym.Env[Any, Any]):
    """Agent 0 sees two numbers and has three actions, numbered from 5; agent 1 sees a picture and has two."""

    def __init__(self, *, masks: object = None, reward: object = (1, 0.5)) -> None:
        self.observation_space = spaces.Tuple([spaces.Box(0, 9, (2,)), spaces.Box(0, 9, (2, 2))])
        self.action_space = spaces.Tuple([spaces.Discrete(3, start=5), spaces.Discrete(2)])
        self.masks, self.reward = masks, reward
        self.heard: object = None

    def look(self) -> tuple[Any, dict[str, Any]]:
        seen = (np.array([1, 2], np.float32), np.array([[3, 4], [5, 6]], np.float32))
        return seen, {} if self.masks is None else {"action_mask": self.masks}

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 3
        return self.look()

    def step(self, action: object) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.heard = action
        self.left -= 1
        seen, info = self.look()
        return seen, self.reward, self.left == 0, self.left == 0, info


def test_agents_that_differ_are_padded_and_masked() -> None:
    raw = Unlike()
    env = GymAdapter(raw, episode_limit=10)
    frame = env.reset(seed=0)
    np.testing.assert_array_equal(frame.obs, [[1, 2, 0, 0], [3, 4, 5, 6]])
    np.testing.assert_array_equal(frame.avail_actions, [[True, True, True], [True, True, False]])
    step = env.step(np.array([2, 1]))
    assert raw.heard == (7, 1)
    np.testing.assert_array_equal(step.reward, np.array([1, 0.5], np.float32))
    assert (step.terminated, step.truncated) == (False, False)
    env.step(np.array([0, 0]))
    step = env.step(np.array([0, 0]))
    assert (step.terminated, step.truncated) == (True, False)  # the environment says both
    assert check(lambda: GymAdapter(Unlike(), episode_limit=10)).terminated == 3


def test_legal_actions_of_each_agent() -> None:
    env = GymAdapter(Unlike(masks=(np.array([0, 0, 1]), [True, False])), episode_limit=10)
    want = [[False, False, True], [True, False, False]]
    np.testing.assert_array_equal(env.reset().avail_actions, want)
    np.testing.assert_array_equal(env.step(np.array([2, 0])).frame.avail_actions, want)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([[1, 1], [1, 1]], r"^action_mask, agent 0: given shape \(2,\), want shape \(3,\)$"),
        ([[1, 1, 1]], "^action_mask: given 1 masks, want 2, one per agent$"),
    ],
)
def test_masks_that_do_not_fit(masks: object, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        GymAdapter(Unlike(masks=masks), episode_limit=10).reset()


def test_a_reward_that_does_not_fit() -> None:
    env = GymAdapter(Unlike(reward=1.0), episode_limit=10)
    env.reset()
    with pytest.raises(EnvError, match=r"^reward: given shape \(\), want shape \(2,\)$"):
        env.step(np.array([0, 0]))


def test_spaces_that_do_not_fit() -> None:
    with pytest.raises(EnvError, match=r"action space: given MultiDiscrete.*, want Discrete"):
        make(RWARE, msg_bits=1)
    raw = Unlike()
    raw.observation_space = spaces.Tuple([spaces.Discrete(2)])
    with pytest.raises(EnvError, match="want a Tuple of 2, as many as the action space"):
        GymAdapter(raw, episode_limit=10)
    raw.observation_space = spaces.Tuple([spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2)])
    with pytest.raises(EnvError, match="want one of fixed size"):
        GymAdapter(raw, episode_limit=10)
    with pytest.raises(EnvError, match="no step limit of its own"):
        GymAdapter(Unlike())


# --- All of them ---


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        (LBF, {}),
        (EASY_LBF, {}),
        (RWARE, {"max_steps": 60}),
        (RWARE, {"max_inactivity_steps": 9}),
        ("CartPole-v1", {}),
        ("CartPole-v1", {"episode_limit": 10}),
        ("FrozenLake-v1", {}),
        ("Blackjack-v1", {"episode_limit": 30}),
        ("Taxi-v4", {}),
    ],
)
def test_the_adapter_keeps_to_the_protocol(env_id: str, options: dict[str, Any]) -> None:
    report = check(partial(make, env_id, **options), episodes=4, resets=20, seed=7)
    assert report.episodes == 4 == report.terminated + report.truncated


def test_a_seed_starts_a_sequence_of_episodes() -> None:
    one, two = make(LBF), make(LBF)
    first = one.reset(seed=5).obs.copy()
    np.testing.assert_array_equal(first, two.reset(seed=5).obs)
    second = one.reset().obs.copy()
    np.testing.assert_array_equal(second, two.reset().obs)
    assert (first != second).any()
