"""K environments as tensors: the same episodes as one by one, and faults that say where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

from endmark.envs import BatchedStep, ContractError
from endmark.episodes import EpisodeBatch, EpisodeBuilder, EpisodeSpec
from endmark.episodes.builders import EpisodeBuilders
from endmark.rollout import Batched, InProcess, Lockstep, ReplayWarning, Rollout, Stopped, make_rollout, play
from support.helpers import assert_same_episodes
from support.scripted import ByObservation, Scripted, length_of
from support.together import Altered, Together

SEEDS = [3, 14, 0, 7, 21, 9, 33, 12, 2, 40, 5]


def scripted(n_envs: int, *, reward_per_agent: bool = False) -> list[Scripted]:
    return [Scripted(reward_per_agent=reward_per_agent) for _ in range(n_envs)]


def all_of(rollout: Rollout) -> list[tuple[EpisodeBatch, list[int], int, int]]:
    policy, collected = ByObservation(), []
    while rollout.running:
        episodes = rollout.collect(policy)
        collected.append((episodes, rollout.ended_seeds, rollout.env_steps, rollout.episodes))
    return collected


@pytest.mark.parametrize("n_envs", [1, 3, 4, 16])
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_the_same_episodes_as_one_by_one(n_envs: int, reward_per_agent: bool) -> None:
    """Of every length and end, also while environments fall idle."""
    want = all_of(Lockstep(InProcess(scripted(n_envs, reward_per_agent=reward_per_agent)), SEEDS))
    given = all_of(Batched(Together(scripted(n_envs, reward_per_agent=reward_per_agent)), SEEDS))
    assert len(given) == len(want)
    for (episodes, *counters), (want_episodes, *want_counters) in zip(given, want, strict=True):
        assert counters == want_counters
        assert_same_episodes(episodes, want_episodes)


@pytest.mark.parametrize("seeds", [[7, 9, 16], [9, 7, 16]])
def test_one_that_falls_idle_at_the_limit_leaves_its_neighbours_rows_alone(seeds: list[int]) -> None:
    assert [length_of(seed) for seed in (7, 9, 16)] == [9, 1, 9]
    given = play(Together(scripted(2)), ByObservation(), seeds)
    assert_same_episodes(given, play(InProcess(scripted(2)), ByObservation(), seeds))


def test_play_gives_the_episodes_in_the_order_of_their_seeds() -> None:
    given = play(Together(scripted(4)), ByObservation(), SEEDS)
    assert_same_episodes(given, play(InProcess(scripted(4)), ByObservation(), SEEDS))
    assert given.lengths.tolist() == [length_of(seed) for seed in SEEDS]


def test_a_policy_is_told_where_an_episode_starts() -> None:
    policy, one_by_one = ByObservation(), ByObservation()
    for rollout, asked in [
        (make_rollout(Together(scripted(3)), range(3, 40)), policy),
        (make_rollout(InProcess(scripted(3)), range(3, 40)), one_by_one),
    ]:
        for _ in range(12):
            rollout.collect(asked)
    assert torch.equal(torch.stack(policy.first), torch.stack(one_by_one.first))
    assert torch.equal(torch.stack(policy.obs), torch.stack(one_by_one.obs))


def test_no_seed_and_no_episode() -> None:
    rollout = Batched(Together(scripted(2)), [])
    assert not rollout.running
    with pytest.raises(RuntimeError, match="no seed to begin one from"):
        rollout.collect(ByObservation())


def test_it_stops_before_a_step() -> None:
    stop = False
    rollout = Batched(Together(scripted(2)), range(3, 40), stop=lambda: stop)
    rollout.collect(ByObservation())
    steps, stop = rollout.env_steps, True
    with pytest.raises(Stopped):
        rollout.collect(ByObservation())
    assert rollout.env_steps == steps


def nan_reward(step: BatchedStep, n: int) -> BatchedStep:
    if n == 3:
        step.reward[1] = torch.nan
    return step


def infinite_obs(step: BatchedStep, n: int) -> BatchedStep:
    if n == 3:
        step.frames["obs"][1, 0, 2] = torch.inf
    return step


def nothing_legal(step: BatchedStep, n: int) -> BatchedStep:
    if n == 3:
        step.frames["avail_actions"][1, 0] = False
    return step


def both_ends(step: BatchedStep, n: int) -> BatchedStep:
    if n == 3:
        step.terminated[1] = step.truncated[1] = True
    return step


def no_end(step: BatchedStep, n: int) -> BatchedStep:
    return step._replace(terminated=torch.zeros(3).bool(), truncated=torch.zeros(3).bool())


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (nan_reward, "environment 1, seed 7, step 2, reward: given nan, want finite numbers"),
        (infinite_obs, r"environment 1, seed 7, frame 3, obs, agent 0, number \[2\]: given inf, want finite"),
        (nothing_legal, "environment 1, seed 7, frame 3, avail_actions, agent 0: given no legal action"),
        (both_ends, "environment 1, seed 7, step 2, end: given both terminated and truncated"),
        (no_end, "environment 0, seed 25, step 8: given an episode that goes on, want an end"),
    ],
)
def test_a_fault_says_where_it_is(alter: Callable[[BatchedStep, int], BatchedStep], message: str) -> None:
    rollout = Batched(Altered(Together(scripted(3)), alter), [25, 7, 16])
    assert [length_of(seed) for seed in [25, 7, 16]] == [9, 9, 9]
    with pytest.raises(ContractError, match=message):
        all_of(rollout)


def test_an_environment_that_is_idle_may_give_anything() -> None:
    def alter(step: BatchedStep, n: int) -> BatchedStep:
        step.frames["obs"][0], step.reward[0] = torch.nan, torch.nan
        return step

    rollout = Batched(Altered(Together(scripted(2)), alter), [])
    rollout._begin(torch.tensor([False, True]))
    assert not rollout.running
    seeds = iter([25])
    rollout._next_seed = seeds
    rollout._begin(torch.tensor([False, True]))
    assert rollout.collect(ByObservation()).lengths.tolist() == [9]


def test_an_episode_that_cannot_be_played_again_is_dropped() -> None:
    seeds = [4, 7, 16, 25, 34]
    before = Batched(Together(scripted(3)), seeds)
    before.collect(ByObservation())

    def alter(step: BatchedStep, n: int) -> BatchedStep:
        step.frames["obs"][1] += 1
        return step

    after = Batched(Altered(Together(scripted(3)), alter), seeds)
    state = before.state_dict()
    assert [len(episode["steps"]["actions"]) for episode in state["running"]] == [0, 3, 3]
    with pytest.warns(ReplayWarning, match=r"environments \[1\]: their running episodes were not the same"):
        after.load_state_dict(state)
    assert not after.exact
    running = after.state_dict()["running"]
    assert [len(episode["steps"]["actions"]) for episode in running] == [0, 0, 3]
    assert [episode["seed"] for episode in running] == [25, 25, 16]  # a list of seeds has no state


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    state = Batched(Together(scripted(3)), range(9)).state_dict()
    with pytest.raises(ValueError, match="given 3 environments, want 2"):
        Batched(Together(scripted(2)), range(9)).load_state_dict(state)


def test_builders_side_by_side_are_as_one() -> None:
    """Random frames, steps and ends; each cut out as `EpisodeBuilder` has it."""
    rng = np.random.default_rng(0)
    spec = EpisodeSpec.of(
        n_agents=2, n_actions=3, episode_limit=6, obs_shape=(4,), state_shape=(5,), outcomes=("win",)
    )
    n = 5
    together, singles = (
        EpisodeBuilders(spec, n, torch.device("cpu")),
        [EpisodeBuilder(spec) for _ in range(n)],
    )

    def drawn(names: Iterable[str]) -> dict[str, torch.Tensor]:
        values = {}
        for name in names:
            field = spec.fields[name]
            numbers = torch.from_numpy(rng.integers(0, 2, (n, *field.shape)))
            values[name] = (numbers if field.dtype != torch.float32 else numbers + 0.5).to(field.dtype)
        return values

    def begin(where: torch.Tensor) -> None:
        frames = drawn(spec.frame_fields)
        together.begin(frames, where)
        for k in where.nonzero()[:, 0].tolist():
            singles[k].begin(**{name: value[k].numpy() for name, value in frames.items()})

    begin(torch.ones(n, dtype=torch.bool))
    finished = 0
    for _ in range(60):
        steps, frames = drawn((*spec.step_fields, "win")), drawn(spec.frame_fields)
        terminated = torch.from_numpy(rng.random(n) < 0.2)
        ended = terminated | (together.lengths + 1 == spec.episode_limit)
        together.add(steps, frames, torch.ones(n, dtype=torch.bool))
        for k, single in enumerate(singles):
            step = {name: value[k].numpy() for name, value in steps.items() if name != "win"}
            single.add(step, **{name: value[k].numpy() for name, value in frames.items()})
            assert (
                together.steps(k, ["actions"])["actions"].tolist()
                == single.steps(["actions"])["actions"].tolist()
            )
            assert together.checksum(k) == single.checksum()
        if ended.any():
            cut_out = [
                singles[k].finish(terminated=bool(terminated[k]), outcomes={"win": float(steps["win"][k])})
                for k in ended.nonzero()[:, 0].tolist()
            ]
            assert_same_episodes(together.finish(terminated, ended), EpisodeBatch.cat(cut_out))
            finished += len(cut_out)
            begin(ended)
    assert finished > 40
