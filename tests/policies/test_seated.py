"""A learner and its partners as one policy: each acts as if it sat there alone, episode by episode."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from endmark.envs import BatchedEnvironment
from endmark.episodes import NO_ACTION, EpisodeBatch, Field, Seats, Seen
from endmark.policies import (
    LEARNER,
    EpsilonGreedy,
    Member,
    Partners,
    Policy,
    Scripted,
    Seated,
    Seating,
    SoftmaxPolicy,
    with_seats,
)
from endmark.policies.scripted import random
from endmark.rollout import EpisodeSeeds, InProcess, Rollout, VectorEnv, Workers, make_rollout, play
from support.actors import make_actor
from support.helpers import assert_same_episodes
from support.tables import Tables, length_of, wishes
from support.together import Together

SPEC = Tables().spec
SEATED = with_seats(SPEC)
WITH_LOG_PROB = SEATED.extend(log_prob=Field((4,), torch.float32, per="step"))
SEEDS = [4, 7, 3, 9, 12, 2, 40, 5, 6, 16, 25, 1, 7, 30, 31]


def greedy(seed: int, **options: Any) -> Callable[[int, torch.Generator], Policy]:
    actor = make_actor(SPEC, seed=seed, **options)
    return lambda n_envs, _: EpsilonGreedy(actor, n_envs, torch.Generator())


def script(function: Any) -> Callable[[int, torch.Generator], Policy]:
    return lambda _, generator: Scripted(function, generator)


LEARNING = greedy(0)
POOL = [
    Member("gru", greedy(1)),
    Member("feedforward", greedy(2, kind="feedforward")),
    Member("independent", greedy(3, share="none", hidden_size=8)),
    Member("blind", greedy(4, last_action=False, agent_id=False)),
    Member("script", script(wishes)),
]
SEATINGS = {
    "one together": Seating(4, len(POOL)),
    "two together": Seating(4, len(POOL), together=2),
    "all different": Seating(4, len(POOL), together=1),
    "two learners": Seating(4, len(POOL), learners=2, together=1),
    "pool of two": Seating(4, 2, together=1),
}


def no_draws() -> torch.Generator:
    return torch.Generator()


class Alone:
    """A frame of one environment at a time, as a policy sees it."""

    def __init__(self, seed: int) -> None:
        self.env, self.seed = Tables(), seed
        self.frame = self.env.reset(seed=seed)
        self.last, self.first = torch.full((1, 4), NO_ACTION), True

    def seen(self) -> Seen:
        obs, legal, alive = self.frame.obs, self.frame.legal, self.frame.alive
        return Seen(
            torch.from_numpy(obs.copy())[None],
            torch.from_numpy(legal.copy())[None],
            torch.from_numpy(alive.copy())[None],
            None,
            torch.tensor([self.first]),
            self.last,
            torch.tensor([self.seed]),
        )

    def step(self, actions: list[int]) -> bool:
        """Whether the episode goes on."""
        step = self.env.step(np.array(actions))
        self.frame, self.first, self.last = step.frame, False, torch.tensor([actions])
        return step.end is None


def naive_actions(seed: int, seating: Seating) -> list[list[int]]:
    """The episode alone, by fresh policies, each of which plays all agents and is asked for its own."""
    seats = seating(seed).tolist()
    policies = [LEARNING(1, no_draws())] + [member.policy(1, no_draws()) for member in POOL]
    game, taken, goes_on = Alone(seed), [], True
    while goes_on:
        wishes_of = [policy.act(game.seen())["actions"][0].tolist() for policy in policies]
        taken.append([wishes_of[1 + seats[n]][n] for n in range(4)])
        goes_on = game.step(taken[-1])
    return taken


class Recorder:
    """What a policy was shown, by episode and frame; it acts as the policy does."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.seats: list[Seats] = []
        self.rows: dict[int, list[dict[str, Any]]] = defaultdict(list)

    def act(self, seen: Seen) -> Mapping[str, Tensor]:
        if seen.seats is not None:
            self.seats.append(Seats(*(tensor.clone() for tensor in seen.seats)))
        for k, seed in enumerate(seen.seed.tolist()):
            row = {"obs": seen.obs[k].clone(), "last": seen.last_actions[k].clone()}
            if seen.first[k]:
                self.rows[seed].append({"frames": []})
            if self.rows[seed]:
                self.rows[seed][-1]["frames"].append(row)
        return self.policy.act(seen)

    def schedule(self, env_steps: int) -> Mapping[str, float]:
        return self.policy.schedule(env_steps)

    def state_dict(self) -> dict[str, Any]:
        return self.policy.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state)


def in_process(n_envs: int) -> VectorEnv:
    return InProcess([Tables() for _ in range(n_envs)])


def batched(n_envs: int) -> BatchedEnvironment:
    return Together([Tables() for _ in range(n_envs)])


@pytest.fixture(params=["in process", "workers", "batched"])
def make_envs(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Any]]:
    made: list[Any] = []

    def make(n_envs: int) -> Any:
        if request.param == "workers":
            per = 2 if n_envs % 2 == 0 else 1
            made.append(Workers(Tables, SPEC, workers=n_envs // per, envs_per_worker=per))
        else:
            made.append((batched if request.param == "batched" else in_process)(n_envs))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


@pytest.mark.parametrize(("name", "n_envs"), [*((name, 4) for name in SEATINGS), ("all different", 1)])
def test_each_acts_as_if_it_played_the_episode_alone(name: str, n_envs: int) -> None:
    """Members sit in some episodes and not in others, and are at other frames of them."""
    seating = SEATINGS[name]
    policy = Partners(POOL, seating).seat(LEARNING(n_envs, no_draws()), n_envs, no_draws())
    batch = play(in_process(n_envs), policy, SEEDS, SEATED)
    assert batch.lengths.tolist() == [length_of(seed) for seed in SEEDS]
    for seed, episode in zip(SEEDS, batch.split(), strict=True):
        assert episode.steps("actions").tolist() == naive_actions(seed, seating), seed
        seats = seating(seed)
        assert (episode.steps("partner").numpy() == seats).all()
        assert (episode.steps("learns").numpy() == (seats == LEARNER)).all()
        assert (episode.learning == episode.alive & torch.from_numpy(seats == LEARNER)).all()


def test_the_same_episodes_in_workers_and_batched(make_envs: Callable[[int], Any]) -> None:
    partners = Partners(POOL, SEATINGS["two together"])
    given, want = (
        play(envs, partners.seat(LEARNING(4, no_draws()), 4, no_draws()), SEEDS, SEATED)
        for envs in (make_envs(4), in_process(4))
    )
    assert_same_episodes(given, want)


def test_a_learner_that_draws_does_so_as_alone() -> None:
    """Its actions and their log-probabilities, in its own seats, with one environment."""
    actor, seating = make_actor(SPEC, seed=9), SEATINGS["two learners"]
    learner = SoftmaxPolicy(actor, 1, torch.Generator().manual_seed(5))
    policy = Partners(POOL, seating).seat(learner, 1, no_draws())
    batch = play(in_process(1), policy, SEEDS, WITH_LOG_PROB)
    alone = SoftmaxPolicy(actor, 1, torch.Generator().manual_seed(5))
    for seed, episode in zip(SEEDS, batch.split(), strict=True):
        game = Alone(seed)
        for taken, log_prob in zip(episode.steps("actions").tolist(), episode.steps("log_prob"), strict=True):
            given = alone.act(game.seen())
            for n in np.flatnonzero(seating(seed) == LEARNER).tolist():
                assert taken[n] == int(given["actions"][0, n])
                assert log_prob[n] == given["log_prob"][0, n]
            game.step(taken)


def test_what_learner_and_members_are_told_of_the_seats() -> None:
    """And a member that sits nowhere is not asked."""
    seating = Seating(4, len(POOL), learners=1, together=2)
    learner = Recorder(LEARNING(2, no_draws()))
    members = [Recorder(member.policy(2, no_draws())) for member in POOL]
    seated = Seated(learner, members, seating, 2)
    rollout = make_rollout(in_process(2), SEEDS, SEATED)

    class Checking(EpsilonGreedy):
        def act(self, seen: Seen) -> dict[str, Tensor]:
            want = torch.from_numpy(np.stack([seating(int(seed)) for seed in seen.seed]))
            before = [len(member.seats) for member in members]
            given = seated.act(seen)
            seats = learner.seats[-1]
            assert torch.equal(seats.learns, want == LEARNER)
            assert torch.equal(seats.partner, want)
            assert torch.equal(seats.actions, torch.where(want == LEARNER, NO_ACTION, given["actions"]))
            for m, member in enumerate(members):
                sits = bool((want == m).any())
                assert len(member.seats) == before[m] + sits
                if sits:
                    assert torch.equal(member.seats[-1].learns, want == m)
                    assert torch.equal(member.seats[-1].partner, want)
                    assert (member.seats[-1].actions == NO_ACTION).all()
            return given

    checking = Checking(make_actor(SPEC), 2, no_draws())
    while rollout.running:
        rollout.collect(checking)
    assert all(0 < len(member.seats) < len(learner.seats) for member in members)


def assert_seen_is_stored(recorder: Recorder, episodes: EpisodeBatch, seeds: list[int]) -> None:
    """The last actions of all agents that alive ones saw are those of the batch; `seed` is the episode's."""
    for seed, episode in zip(seeds, episodes.split(), strict=True):
        length = int(episode.lengths[0])
        frames = recorder.rows[seed][0]["frames"][:length]
        assert len(frames) == length
        for t, frame in enumerate(frames):
            assert torch.equal(frame["obs"], episode.obs[t]), "it is this episode"
            assert torch.equal(frame["last"], episode.last_actions[t]), (seed, t)


@pytest.mark.parametrize("n_envs", [1, 4])
def test_seen_last_actions_and_seed_are_those_of_the_episode(
    make_envs: Callable[[int], Any], n_envs: int
) -> None:
    seeds = [*dict.fromkeys(SEEDS)]
    recorder = Recorder(Scripted(random, torch.Generator().manual_seed(1)))
    batch = play(make_envs(n_envs), recorder, seeds)
    assert_seen_is_stored(recorder, batch, seeds)
    assert (batch.last_actions[batch.first_frames] == NO_ACTION).all()


def rollout_of(envs: Any) -> Rollout:
    return make_rollout(envs, EpisodeSeeds(0, 5), WITH_LOG_PROB)


def drawing(n_envs: int) -> Seated:
    """A learner and a member that draw, and members that remember."""
    pool = [*POOL, Member("random", script(random))]
    learner = SoftmaxPolicy(make_actor(SPEC, seed=8), n_envs, torch.Generator().manual_seed(3))
    seating = Seating(4, len(pool), together=1)
    return Partners(pool, seating).seat(learner, n_envs, torch.Generator().manual_seed(4))


@pytest.mark.parametrize("stops", [0, 1, 4])
def test_a_state_in_the_middle_of_episodes(make_envs: Callable[[int], Any], stops: int) -> None:
    """Loaded elsewhere, and loaded where it was taken, which has gone on in the meantime: bit for bit."""
    rollout, policy = rollout_of(make_envs(4)), drawing(4)
    for _ in range(stops):
        rollout.collect(policy)
    states = rollout.state_dict(), policy.state_dict()
    kept = copy.deepcopy(states)
    want = [rollout.collect(policy) for _ in range(8)]
    for one, other in zip(flat(states[1]), flat(kept[1]), strict=True):
        assert torch.equal(one, other), "a state does not change afterwards"
    for state, again in ((states, policy), (kept, drawing(4))):
        other_rollout = rollout_of(make_envs(4))
        other_rollout.load_state_dict(state[0])
        again.load_state_dict(state[1])
        recorder = Recorder(again)
        for episodes in want:
            given = other_rollout.collect(recorder)
            assert_same_episodes(given, episodes)
        assert other_rollout.exact


def flat(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, list) else []
    return [tensor for part in parts for tensor in flat(part)]


def test_last_actions_after_a_state_was_loaded(make_envs: Callable[[int], Any]) -> None:
    rollout, policy = rollout_of(make_envs(4)), drawing(4)
    for _ in range(3):
        rollout.collect(policy)
    running = {
        episode["seed"]: len(episode["steps"]["actions"]) for episode in rollout.state_dict()["running"]
    }
    assert max(running.values()) > 0
    resumed, again = rollout_of(make_envs(4)), drawing(4)
    resumed.load_state_dict(rollout.state_dict())
    again.load_state_dict(policy.state_dict())
    seen: dict[int, list[Tensor]] = defaultdict(list)

    class Noting(Recorder):
        def act(self, frame: Seen) -> Mapping[str, Tensor]:
            for k, seed in enumerate(frame.seed.tolist()):
                seen[seed].append(frame.last_actions[k].clone())
            return self.policy.act(frame)

    checked = 0
    noting = Noting(again)
    while running:
        episodes = resumed.collect(noting)
        for seed, episode in zip(resumed.ended_seeds, episodes.split(), strict=True):
            begun = running.pop(seed, None)
            if begun is not None:
                want = episode.last_actions[begun : int(episode.lengths[0])]
                assert torch.equal(torch.stack(seen[seed]), want)
                checked += 1
    assert checked == 4


def test_the_schedule_is_the_learners() -> None:
    learner = EpsilonGreedy(make_actor(SPEC), 2, no_draws(), lambda steps: steps / 10)
    policy = Partners(POOL, SEATINGS["one together"]).seat(learner, 2, no_draws())
    assert policy.schedule(5) == {"epsilon": 0.5}
    assert learner.epsilon == 0.5


def test_the_spec_with_seats() -> None:
    assert SEATED.fields["learns"] == Field((4,), torch.bool, per="step")
    assert SEATED.fields["partner"] == Field((4,), torch.int64, per="step")
    assert {*SEATED.fields} - {*SPEC.fields} == {"learns", "partner"}
