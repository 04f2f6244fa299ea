"""What a rollout hands over is what happened, whole, in whatever company."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from endmark.envs import Environment, Frame, Step
from endmark.episodes import EpisodeBatch
from endmark.policies import Policy
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, VectorEnv, play
from support.scripted import LIMIT, ByObservation, Log, Scripted, length_of, logs_by_seed, terminates

SEEDS = list(range(3, 40))
NOTHING_RUNS = "^collect: no episode is running, and there is no seed to begin one from$"


def seeds_of(episodes: EpisodeBatch) -> list[int]:
    return [int(seed) for seed in episodes.state[episodes.first_frames, 0]]


def seed_of(episode: EpisodeBatch) -> int:
    (seed,) = seeds_of(episode)
    return seed


def assert_is(episode: EpisodeBatch, log: Log) -> None:
    """Every field, length and end, bit for bit."""
    assert episode.n_episodes == 1
    assert episode.n_steps == len(log.actions) == length_of(log.seed)
    assert bool(episode.terminated) == log.terminated
    assert bool(episode.truncated) == log.truncated
    for name in ("obs", "avail_actions", "alive", "state"):
        np.testing.assert_array_equal(episode[name], np.stack([frame[name] for frame in log.frames]))
    np.testing.assert_array_equal(episode.steps("actions"), np.stack(log.actions))
    np.testing.assert_array_equal(episode.steps("reward"), np.stack(log.reward))


def test_the_scripted_environment_is_one() -> None:
    assert isinstance(Scripted(), Environment)
    assert isinstance(InProcess([Scripted()]), VectorEnv)
    assert isinstance(ByObservation(), Policy)
    assert {length_of(seed) for seed in SEEDS} == set(range(1, LIMIT + 1))
    assert {terminates(seed) for seed in SEEDS} == {True, False}


@pytest.mark.parametrize("n_envs", [1, 2, 5])
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_every_episode_is_handed_over_whole_and_exact(n_envs: int, reward_per_agent: bool) -> None:
    envs = [Scripted(reward_per_agent=reward_per_agent) for _ in range(n_envs)]
    rollout, policy = Lockstep(InProcess(envs), SEEDS), ByObservation()
    episodes: list[EpisodeBatch] = []
    steps_when_collected = 0
    while rollout.running:
        finished = rollout.collect(policy)
        assert rollout.ended_seeds == seeds_of(finished)
        episodes += finished.split()
        # The counters are true at every hand-over, also for the episodes that are still running.
        assert rollout.episodes == len(episodes)
        assert rollout.env_steps == sum(len(log.actions) for env in envs for log in env.logs)
        assert rollout.env_steps > steps_when_collected
        steps_when_collected = rollout.env_steps
    # Compared only now: what was handed over first must have survived all that came later.
    logs = logs_by_seed(envs)
    assert sorted(map(seed_of, episodes)) == SEEDS
    for episode in episodes:
        assert_is(episode, logs[seed_of(episode)])
    assert rollout.env_steps == sum(map(length_of, SEEDS))
    assert rollout.episodes == len(SEEDS)


def test_seeds_are_consumed_in_order_and_no_further_than_needed() -> None:
    envs = [Scripted() for _ in range(3)]
    drawn: list[int] = []

    def seeds() -> itertools.chain[int]:
        def draw(seed: int) -> int:
            drawn.append(seed)
            return seed

        return itertools.chain(map(draw, itertools.count(7)))

    rollout = Lockstep(InProcess(envs), seeds())
    assert drawn == [7, 8, 9]
    for _ in range(20):
        rollout.collect(ByObservation())
        assert drawn == list(range(7, 7 + 3 + rollout.episodes))
    started = sorted(log.seed for env in envs for log in env.logs)
    assert started == drawn


def test_environments_fall_idle_when_the_seeds_are_used_up() -> None:
    envs = [Scripted() for _ in range(4)]
    seeds = [1, 2, 4]  # fewer than environments; lengths 6, 2, 3
    rollout, policy = Lockstep(InProcess(envs), seeds), ByObservation()
    assert [len(env.logs) for env in envs] == [1, 1, 1, 0]
    assert seeds_of(rollout.collect(policy)) == [2]
    assert seeds_of(rollout.collect(policy)) == [4]
    assert seeds_of(rollout.collect(policy)) == [1]
    assert not rollout.running
    calls = len(policy.first)
    with pytest.raises(RuntimeError, match=NOTHING_RUNS):
        rollout.collect(policy)
    assert len(policy.first) == calls == 6
    assert (rollout.env_steps, rollout.episodes) == (11, 3)
    assert [len(env.logs) for env in envs] == [1, 1, 1, 0]


def test_nothing_runs_without_seeds() -> None:
    rollout = Lockstep(InProcess([Scripted()]), [])
    assert not rollout.running
    with pytest.raises(RuntimeError, match=NOTHING_RUNS):
        rollout.collect(ByObservation())
    with pytest.raises(ValueError, match="no batch"):
        play(InProcess([Scripted()]), ByObservation(), [])


@pytest.mark.parametrize("n_envs", [1, 4, 50])
def test_play_gives_exactly_one_episode_a_seed(n_envs: int) -> None:
    batch = play(InProcess([Scripted() for _ in range(n_envs)]), ByObservation(), iter(SEEDS))
    played = {seed_of(episode): episode for episode in batch.split()}
    assert batch.n_episodes == len(SEEDS)
    assert {seed: episode.n_steps for seed, episode in played.items()} == {s: length_of(s) for s in SEEDS}
    assert {seed: bool(episode.terminated) for seed, episode in played.items()} == {
        s: terminates(s) for s in SEEDS
    }


def test_one_environment_and_five_give_the_same_episodes() -> None:
    one = play(InProcess([Scripted()]), ByObservation(), SEEDS)
    five = play(InProcess([Scripted() for _ in range(5)]), ByObservation(), SEEDS)
    assert seeds_of(one) == SEEDS
    assert torch.equal(one.lengths, five.lengths)
    assert torch.equal(one.terminated, five.terminated)
    for name in one.fields:
        assert torch.equal(one[name], five[name]), name


def test_first_is_true_exactly_where_an_episode_starts() -> None:
    envs = [Scripted() for _ in range(3)]
    policy = ByObservation()
    play(InProcess(envs), policy, SEEDS)
    for k, env in enumerate(envs):
        want = [t == 0 for log in env.logs for t in range(len(log.actions))]
        given = [bool(first[k]) for first in policy.first]
        assert given[: len(want)] == want
        # What the policy saw in that row is what the environment showed, but for the final frames.
        seen = np.stack([frame["obs"] for log in env.logs for frame in log.frames[:-1]])
        np.testing.assert_array_equal(torch.stack([obs[k] for obs in policy.obs[: len(want)]]), seen)


def test_an_environment_that_breaks_its_spec_is_refused() -> None:
    class TooLong(Scripted):
        def step(self, actions: npt.NDArray[np.int64]) -> Step:
            return Step(self._frame, np.zeros((), dtype=np.float32))

    class WrongShape(Scripted):
        def reset(self, seed: int | None = None) -> Frame:
            return super().reset(seed)._replace(alive=np.ones(3, dtype=np.bool_))

    with pytest.raises(
        ValueError, match=f"^environment 0, seed 3, step {LIMIT - 1}: given an episode that goes on"
    ):
        play(InProcess([TooLong()]), ByObservation(), [3])
    with pytest.raises(ValueError, match=r"^environment 0, seed 3, frame 0, alive: given shape"):
        play(InProcess([WrongShape()]), ByObservation(), [3])


def test_episode_seeds() -> None:
    def take(*entropy: int) -> list[int]:
        return list(itertools.islice(EpisodeSeeds(*entropy), 50))

    # As a training run draws them: (0, seed) to train, (1,) and (2,) to evaluate.
    families = [*(take(0, seed) for seed in range(5)), take(1), take(2)]
    assert take(0, 3) == take(0, 3)
    assert all(0 <= seed < 2**31 for family in families for seed in family)
    assert len({tuple(family) for family in families}) == len(families)
    # Not the same seeds in another order either: evaluation must not meet the episodes of training.
    assert len({seed for family in families for seed in family}) == 50 * len(families)
