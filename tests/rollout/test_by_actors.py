"""Actors that are asked in turn, here in this process: what a cluster adds is tested in tests/training."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Container, Iterator
from typing import Any

import pytest
import torch

from endmark.episodes import EpisodeBatch, Field
from endmark.policies import SoftmaxPolicy
from endmark.rollout import ByActors, EpisodeSeeds, InProcess, Lockstep, Player, ReplayWarning
from endmark.rollout.player import Answer, PlayingActor, Request
from support.actors import make_actor
from support.helpers import assert_same_episodes
from support.scripted import Scripted

ENV = Scripted().spec
SPEC = ENV.extend(log_prob=Field((2,), torch.float32, per="step"))
N_ENVS = 3


def make_player(number: int) -> Player:
    actor = make_actor(ENV, obs_scale=0.003)
    policy = SoftmaxPolicy(actor, N_ENVS, torch.Generator().manual_seed(number))
    envs = InProcess([Scripted() for _ in range(N_ENVS)])
    return Player(Lockstep(envs, EpisodeSeeds(number), SPEC), policy, actor, N_ENVS, envs.close)


class Here:
    """An `ActorPool` of this process. deaths: answers, by their number, before which an actor dies."""

    def __init__(self, n_actors: int = 2, deaths: Container[int] = ()) -> None:
        self.n_actors = n_actors
        self.requests: list[Request] = []
        self.died: list[int] = []
        self._deaths, self._answers = deaths, 0
        self._actors = [PlayingActor(make_player, number) for number in range(n_actors)]

    def ask(self, number: int, request: Request) -> Answer:
        self.requests.append(request)
        return self._actors[number].collect(*copy.deepcopy(request))

    def answer(self, number: int, asked: Any, stop: Callable[[], bool] = lambda: False) -> Answer | None:
        self._answers += 1
        if self._answers in self._deaths:
            self.died.append(number)
            self._actors[number] = PlayingActor(make_player, number)
            return None
        assert isinstance(asked, Answer)
        return copy.deepcopy(asked)


class Learner:
    """Counts updates, each of which moves the weights."""

    def __init__(self) -> None:
        self.updates = 0
        self.actor = make_actor(ENV, obs_scale=0.003)

    def update(self) -> None:
        self.updates += 1
        with torch.no_grad():
            for parameter in self.actor.parameters():
                parameter.add_(0.01)


def rollout_of(pool: Here, learner: Learner, every: int = 1) -> ByActors:
    return ByActors(pool, SPEC, learner.actor.state_dict, lambda: learner.updates, every=every)


def collected(rollout: ByActors, learner: Learner, n: int) -> Iterator[EpisodeBatch]:
    """The loop's way: an update after each collection."""
    for _ in range(n):
        yield rollout.collect(make_player(0).policy)
        learner.update()


def test_an_actor_alone_plays_what_a_rollout_here_plays() -> None:
    """While the weights stay as they are. As many episodes an answer as there are environments, or more."""
    learner, here = Learner(), make_player(0)
    here.networks.load_state_dict(learner.actor.state_dict())
    rollout = rollout_of(Here(1), learner)
    for _ in range(6):
        want: list[EpisodeBatch] = []
        seeds: list[int] = []
        while len(seeds) < N_ENVS:
            want.append(here.rollout.collect(here.policy))
            seeds += here.rollout.ended_seeds
        assert_same_episodes(rollout.collect(here.policy), EpisodeBatch.cat(want))
        assert rollout.ended_seeds == seeds
    assert (rollout.env_steps, rollout.episodes) == (here.rollout.env_steps, here.rollout.episodes)
    assert rollout.metrics == {"staleness": 0.0}


def test_actors_take_turns_and_are_asked_again_with_the_newest_weights() -> None:
    pool, learner = Here(3), Learner()
    rollout = rollout_of(pool, learner)
    for _ in collected(rollout, learner, 7):
        pass
    # Three to begin with, then the one whose answer was taken last, each with weights of its own.
    assert [request.updates for request in pool.requests] == [0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert all(request.weights is not None for request in pool.requests)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_weights_are_sent_at_most_every_k_updates(every: int) -> None:
    pool, learner = Here(2), Learner()
    rollout = rollout_of(pool, learner, every)
    for _ in collected(rollout, learner, 20):
        pass
    requests = {0: pool.requests[0::2], 1: pool.requests[1::2]}  # the turns alternate
    for asked in requests.values():
        sent = [request.updates for request in asked if request.weights is not None]
        assert len(sent) > 2
        assert all(later - earlier >= every for earlier, later in itertools.pairwise(sent))
    assert any(request.weights is None for request in pool.requests) == (every > 1)


def test_staleness_counts_updates_since_the_first_frame_of_an_episode() -> None:
    pool, learner = Here(2), Learner()
    rollout = rollout_of(pool, learner)
    ages = [rollout.metrics["staleness"] for _ in collected(rollout, learner, 3)]
    # Both first answers are of weights 0, and the second one is taken after an update. The third answer comes
    # from an actor that got weights 1, and had begun some of its episodes with weights 0.
    assert ages[:2] == [0.0, 1.0]
    assert 1.0 < ages[2] < 2.0


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_loaded_rollout_goes_on_as_if_it_had_never_been_stopped(at: int) -> None:
    learner = Learner()
    rollout = rollout_of(Here(3), learner, every=2)
    for _ in collected(rollout, learner, at):
        pass
    state, weights = copy.deepcopy(rollout.state_dict()), copy.deepcopy(learner.actor.state_dict())
    want = [*collected(rollout, learner, 8)]

    other = Learner()
    other.updates = at
    other.actor.load_state_dict(weights)
    loaded = rollout_of(Here(3), other, every=2)
    loaded.load_state_dict(state)
    for given, wanted in zip(collected(loaded, other, 8), want, strict=True):
        assert_same_episodes(given, wanted)
    assert loaded.exact
    assert (loaded.env_steps, loaded.episodes) == (rollout.env_steps, rollout.episodes)


def test_an_actor_that_dies_changes_nothing() -> None:
    """Not at its first answer, not at a later one, and not twice in a row; nor does saving."""
    runs: list[list[EpisodeBatch]] = []
    for deaths in ((), (1,), (3, 4, 9)):
        pool, learner = Here(2, deaths), Learner()
        rollout = rollout_of(pool, learner, every=2)
        runs.append([])
        for episodes in collected(rollout, learner, 8):
            runs[-1].append(episodes)
            rollout.state_dict()
        assert len(pool.died) == len(deaths)
        assert rollout.exact
    for plain, *others in zip(*runs, strict=True):
        for other in others:
            assert_same_episodes(other, plain)


def test_an_actor_that_cannot_play_again_what_its_predecessor_played_makes_the_run_inexact() -> None:
    learner, pool = Learner(), Here(2, deaths=(3,))
    rollout = rollout_of(pool, learner)
    policy = make_player(0).policy
    for _ in range(2):
        rollout.collect(policy)
    state = copy.deepcopy(rollout.state_dict())
    running = state["states"][0]["rollout"]["running"]
    for episode in running:
        episode["checksum"] += 1
    other = rollout_of(Here(2), learner)
    other.load_state_dict(state)
    with pytest.warns(ReplayWarning, match=r"^actors \[0\]: their running episodes were not the same"):
        other.collect(policy)
    assert not other.exact
    assert rollout.exact


def test_a_state_of_other_actors_is_refused() -> None:
    learner = Learner()
    state = rollout_of(Here(2), learner).state_dict()
    with pytest.raises(ValueError, match=r"^load_state_dict: given 2 actors, want 3$"):
        rollout_of(Here(3), learner).load_state_dict(state)
