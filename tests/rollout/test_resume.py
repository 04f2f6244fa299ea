"""A rollout that was stopped and loaded into another goes on as if it had never been stopped."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.envs import BatchedEnvironment
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from endmark.policies import EpsilonGreedy, Policy, SoftmaxPolicy
from endmark.rollout import (
    EpisodeSeeds,
    InProcess,
    Lockstep,
    ReplayWarning,
    Rollout,
    VectorEnv,
    Workers,
    WorkerWarning,
    make_rollout,
    play,
)
from support.actors import make_actor
from support.helpers import assert_same_episodes
from support.losing import Losing
from support.scripted import ByObservation, Scripted, length_of
from support.together import Together
from support.troubled import InStepOnce

ENV = Scripted().spec
WITH_LOG_PROB = ENV.extend(log_prob=Field((2,), torch.float32, per="step"))
ACTOR = make_actor(ENV, obs_scale=0.003)


class SmallSeeds(EpisodeSeeds):
    """Below 50, so that float32 tells observations apart."""

    def __next__(self) -> int:
        return super().__next__() % 50


def epsilon_greedy(n_envs: int, seed: int) -> EpsilonGreedy:
    policy = EpsilonGreedy(ACTOR, n_envs, torch.Generator().manual_seed(seed))
    policy.epsilon = 0.3 if seed == 0 else 0.9
    return policy


def softmax(n_envs: int, seed: int) -> SoftmaxPolicy:
    return SoftmaxPolicy(ACTOR, n_envs, torch.Generator().manual_seed(seed))


def in_process(n_envs: int) -> VectorEnv:
    return InProcess([Scripted() for _ in range(n_envs)])


def together(n_envs: int) -> Together:
    return Together([Scripted() for _ in range(n_envs)])


def workers(n_envs: int) -> VectorEnv:
    return Workers(Scripted, ENV, workers=2, envs_per_worker=n_envs // 2)


HandedOver = tuple[EpisodeBatch, list[int], int, int]
MakePolicy = Callable[[int, int], Policy]
policies = pytest.mark.parametrize(
    ("make_policy", "spec"), [(epsilon_greedy, ENV), (softmax, WITH_LOG_PROB)], ids=["epsilon", "softmax"]
)


def collect(rollout: Rollout, policy: Policy, n: int) -> list[HandedOver]:
    """What the next `n` hand-overs hold, and the counters then."""
    handed_over = []
    for _ in range(n):
        episodes = rollout.collect(policy)
        handed_over.append((episodes, rollout.ended_seeds, rollout.env_steps, rollout.episodes))
    return handed_over


def assert_same(given: list[HandedOver], want: list[HandedOver]) -> None:
    for (episodes, *counters), (want_episodes, *want_counters) in zip(given, want, strict=True):
        assert counters == want_counters
        assert_same_episodes(episodes, want_episodes)


@policies
@pytest.mark.parametrize(
    ("make_envs", "n_envs"),
    [(in_process, 1), (in_process, 4), (workers, 2), (workers, 6), (together, 1), (together, 5)],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_episodes_as_if_it_had_not_been_stopped(
    make_envs: Callable[[int], VectorEnv | BatchedEnvironment],
    n_envs: int,
    make_policy: MakePolicy,
    spec: EpisodeSpec,
    seed: int,
) -> None:
    """Stopped at a random moment, before the first step too; and what was loaded, again."""
    stop, again = random.Random(seed).randrange(20) if seed else 0, 2

    def start(envs: VectorEnv | BatchedEnvironment, seed: int) -> tuple[Rollout, Policy]:
        return make_rollout(envs, SmallSeeds(3), spec), make_policy(n_envs, seed)

    here = together if make_envs is together else in_process  # whose states are different
    want = collect(*start(in_process(n_envs), 0), stop + again + 12)
    rollout, policy = start(here(n_envs), 0)
    assert_same(collect(rollout, policy, stop), want[:stop])
    for seed, n in [(1, again), (2, 12)]:
        state, policy_state = copy.deepcopy((rollout.state_dict(), policy.state_dict()))
        with closing(make_envs(n_envs)) as envs:
            rollout, policy = start(envs, seed)
            rollout.load_state_dict(state)
            policy.load_state_dict(policy_state)
            assert_same(collect(rollout, policy, n), want[stop : stop + n])
        stop += n


def state_of(rollout: Lockstep, n: int) -> dict[str, Any]:
    collect(rollout, ByObservation(), n)
    return copy.deepcopy(rollout.state_dict())


def test_a_state_is_the_seeds_and_what_was_done() -> None:
    """No policy acts while the running episodes are played again, and a state stays as it was."""
    rollout = Lockstep(in_process(3), SmallSeeds(3))
    state = rollout.state_dict()
    collect(rollout, ByObservation(), 5)
    assert state["env_steps"] == 0
    assert [len(episode["steps"]["actions"]) for episode in state["running"]] == [0, 0, 0]
    environments = [Scripted() for _ in range(3)]
    loaded = Lockstep(InProcess(environments), SmallSeeds(3))
    loaded.load_state_dict(state_of(rollout, 1))
    for env, episode in zip(environments, rollout.state_dict()["running"], strict=True):
        assert env.logs[-1].seed == episode["seed"]
        assert [list(actions) for actions in env.logs[-1].actions] == episode["steps"]["actions"].tolist()


def test_an_episode_that_was_lost_leaves_nothing_in_the_state() -> None:
    """Lost in the very step with which another ended: the next has done nothing yet."""
    long = 7  # the seed of an episode of nine steps; that of seed 6 has four
    rollout = Lockstep(Losing(2, {long: 4}), [6, long, 3, 4])
    collect(rollout, ByObservation(), 1)
    assert rollout.ended_seeds == [6]
    running = rollout.state_dict()["running"]
    assert [(episode["seed"], len(episode["steps"]["actions"])) for episode in running] == [(3, 0), (4, 0)]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("retry", [False, True])
def test_an_episode_that_is_lost_while_it_is_played_again_makes_way(retry: bool, at: int) -> None:
    """The others go on. With `retry` it begins anew."""
    before = Lockstep(in_process(3), SmallSeeds(3))
    state = state_of(before, 4)
    lost = next(e for e in state["running"] if len(e["steps"]["actions"]) >= 2)
    others = [e["seed"] for e in state["running"] if e is not lost]
    assert lost["seed"] not in others
    envs = Losing(3, {})
    rollout = Lockstep(envs, SmallSeeds(3), retry=retry)
    envs.at = {lost["seed"]: at}
    rollout.load_state_dict(state)
    assert envs.at == {}
    assert (rollout.env_steps, rollout.episodes) == (state["env_steps"], state["episodes"])
    running = {e["env"]: e for e in rollout.state_dict()["running"]}
    assert [running[e["env"]]["seed"] for e in state["running"] if e is not lost] == others
    assert (running[lost["env"]]["seed"] == lost["seed"]) == retry
    ended: list[int] = []
    policy = ByObservation()
    for episodes, seeds, *_ in collect(rollout, policy, 15):
        assert episodes.lengths.tolist() == [length_of(seed) for seed in seeds]
        ended += seeds
    assert bool(policy.first[0][lost["env"]]) == (at > 0 or not retry)
    assert set(others) <= set(ended)


def test_a_worker_that_fails_while_it_plays_again_costs_its_episode_and_no_more(tmp_path: Path) -> None:
    """The other episodes of that worker, which have fewer steps, are played again once more."""
    before = Lockstep(in_process(3), SmallSeeds(3))
    state = state_of(before, 1)
    while sorted(len(e["steps"]["actions"]) > 3 for e in state["running"]) != [False, False, True]:
        state = state_of(before, 1)
    (lost,) = (e for e in state["running"] if len(e["steps"]["actions"]) > 3)
    others = {e["seed"] for e in state["running"] if e is not lost}
    make_env = partial(InStepOnce, "kill", frozenset([lost["seed"]]), tmp_path)
    with closing(Workers(make_env, ENV, workers=1, envs_per_worker=3)) as envs:
        rollout = Lockstep(envs, SmallSeeds(3))
        with pytest.warns(WorkerWarning, match="killed by SIGKILL") as warned:
            rollout.load_state_dict(state)
        assert len(warned) == 1
        running = {e["env"]: (e["seed"], len(e["steps"]["actions"])) for e in rollout.state_dict()["running"]}
        for e in state["running"]:
            if e is not lost:
                assert running[e["env"]] == (e["seed"], len(e["steps"]["actions"]))
        assert running[lost["env"]][1] == 0
        ended = []
        for episodes, seeds, *_ in collect(rollout, ByObservation(), 12):
            assert_same_episodes(episodes, play(in_process(1), ByObservation(), seeds))
            ended += seeds
        assert others <= set(ended)


@pytest.mark.parametrize("how", ["ends early", "other frames"])
def test_an_episode_that_cannot_be_played_again_is_dropped_and_said(how: str) -> None:
    """An environment whose episodes are not functions of seed and actions cannot go on where it was."""
    state = state_of(Lockstep(in_process(3), SmallSeeds(3)), 4)
    assert Lockstep(in_process(3), SmallSeeds(3)).exact
    episode = next(e for e in state["running"] if len(e["steps"]["actions"]) > 1)
    same_actions = range(episode["seed"] % 3, 200, 3)
    taken = len(episode["steps"]["actions"])
    early = [s for s in same_actions if length_of(s) == 1]
    longer = [s for s in same_actions if length_of(s) > taken + 1 and s != episode["seed"]]
    episode["seed"] = early[0] if how == "ends early" else longer[0]
    rollout = Lockstep(in_process(3), SmallSeeds(3))
    with pytest.warns(ReplayWarning, match=rf"environments \[{episode['env']}\]: .* not the same") as warned:
        rollout.load_state_dict(state)
    assert len(warned) == 1
    assert not rollout.exact
    running = {e["env"]: e for e in rollout.state_dict()["running"]}
    assert len(running[episode["env"]]["steps"]["actions"]) == 0
    for e in state["running"]:
        if e is not episode:
            assert running[e["env"]]["seed"] == e["seed"]
            assert len(running[e["env"]]["steps"]["actions"]) == len(e["steps"]["actions"])
    for episodes, seeds, *_ in collect(rollout, ByObservation(), 12):
        assert_same_episodes(episodes, play(in_process(1), ByObservation(), seeds))


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    state = Lockstep(in_process(3), SmallSeeds(3)).state_dict()
    with pytest.raises(ValueError, match="load_state_dict: given 3 environments, want 2"):
        Lockstep(in_process(2), SmallSeeds(3)).load_state_dict(state)


def test_seeds_go_on() -> None:
    seeds, other = EpisodeSeeds(1, 2), EpisodeSeeds(1, 2)
    drawn = [next(seeds) for _ in range(5)]
    state = seeds.state_dict()
    want = [next(seeds) for _ in range(5)]
    assert drawn != want
    for _ in range(2):  # from wherever it was
        other.load_state_dict(state)
        assert [next(other) for _ in range(5)] == want
