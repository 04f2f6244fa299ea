"""Measures of inferred subgoals against loops over episodes, and by numbers that are known."""

from __future__ import annotations

import math

import pytest
import torch

from endmark.episodes import EpisodeSpec
from endmark.rollout import Interval
from endmark.training.goal_measures import Compared, cells, pooled, windows_of
from endmark.training.goals import Measured, Places, Subgoals, given_places, laid_out, measure, places_at
from support.foretold import LAYOUT, N_FEATURES, foretold

LENGTHS = [6, 1, 9, 3, 4]


def frames_ahead(subgoals: Subgoals, e: int, t: int) -> list[int]:
    """The times after t that count, of this episode."""
    alive = subgoals.alive[subgoals.frames(e)].tolist()
    ahead = []
    for u in range(t + 1, len(alive)):
        if subgoals.until_absent and not alive[u]:
            break
        ahead.append(u)
    return ahead


def steps_of(subgoals: Subgoals) -> list[tuple[int, int]]:
    """(episode, t) of every step at which the learner takes part."""
    return [
        (e, t)
        for e, length in enumerate(subgoals.lengths.tolist())
        for t in range(length)
        if subgoals.alive[subgoals.frames(e)][t]
    ]


def check(compared: Compared, inferred: list[float], stay: list[float]) -> None:
    for interval, values in zip(
        compared, (inferred, stay, [a - b for a, b in zip(inferred, stay, strict=True)]), strict=True
    ):
        assert interval.mean == pytest.approx(sum(values) / len(values), abs=1e-5)
        assert interval.low <= interval.mean + 1e-9
        assert interval.mean <= interval.high + 1e-9


@pytest.mark.parametrize("until_absent", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_errors_and_distances_by_k(seed: int, until_absent: bool) -> None:
    subgoals = foretold(seed, LENGTHS, until_absent=until_absent)
    places = given_places([6, 7, 9, 10], 1.0, subgoals)
    measured = measure(subgoals, places)
    assert measured.steps == len(steps_of(subgoals))
    assert measured.distances is not None
    for k in range(1, subgoals.horizon + 1):
        errors: tuple[list[float], list[float]] = ([], [])
        distances: tuple[list[float], list[float]] = ([], [])
        for e, t in steps_of(subgoals):
            if t + k not in frames_ahead(subgoals, e, t):
                continue
            seen, decoded = subgoals.seen[subgoals.frames(e)], subgoals.decoded[subgoals.frames(e)]
            for i, guess in enumerate((decoded[t], seen[t])):
                off = [float(x) for x in (guess - seen[t + k]) / subgoals.scale]
                errors[i].append(sum(x * x for x in off) / N_FEATURES)
                apart = [
                    math.hypot(float(guess[a] - seen[t + k, a]), float(guess[b] - seen[t + k, b]))
                    for a, b in ((6, 7), (9, 10))
                ]
                distances[i].append(sum(apart) / 2)
        check(measured.errors[k - 1], *errors)
        check(measured.distances[k - 1], *distances)


@pytest.mark.parametrize("until_absent", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_hits(seed: int, until_absent: bool) -> None:
    subgoals = foretold(seed, LENGTHS, until_absent=until_absent)
    measured = measure(subgoals, given_places([6, 7, 9, 10], 1.0, subgoals))
    assert measured.hits is not None
    ratios: tuple[list[float], list[float]] = ([], [])
    later: tuple[list[float], list[float]] = ([], [])
    within: tuple[list[float], list[float]] = ([], [])
    for e in range(len(LENGTHS)):
        seen, decoded = subgoals.seen[subgoals.frames(e)], subgoals.decoded[subgoals.frames(e)]
        steps = [t for episode, t in steps_of(subgoals) if episode == e]
        for i, guess in enumerate((decoded, seen)):
            n_distinct = 0
            came, soon = dict.fromkeys(steps, 0.0), dict.fromkeys(steps, 0.0)
            for pair in ([6, 7], [9, 10]):
                where = [tuple(row) for row in seen[:, pair].tolist()]
                thought = [tuple(math.floor(x + 0.5) for x in row) for row in guess[:, pair].tolist()]
                found = set()
                for t in steps:
                    ahead = frames_ahead(subgoals, e, t)
                    came[t] += thought[t] in [where[u] for u in ahead]
                    soon[t] += thought[t] in [where[u] for u in ahead if u <= t + subgoals.horizon]
                    if thought[t] in [where[u] for u in [t, *ahead]]:
                        found.add(thought[t])
                n_distinct += len(found)
            ratios[i].append(n_distinct / 2 / len(steps))
            later[i].extend(value / 2 for value in came.values())
            within[i].extend(value / 2 for value in soon.values())
    assert 0 < sum(ratios[0]) < sum(ratios[1])
    for compared, naive in zip(measured.hits, (ratios, later, within), strict=True):
        check(compared, *naive)


def walk(decoded: list[tuple[int, int]], seen: list[tuple[int, int]], horizon: int) -> Measured:
    """One episode, of one other that is seen at these places, each thought of in the frame before."""
    features = torch.tensor(seen).float()
    thought = torch.tensor([*decoded, (0, 0)]).float()
    n_frames = len(seen)
    subgoals = Subgoals(
        torch.tensor([n_frames - 1]), features, thought, features, torch.ones(2), torch.ones(n_frames).bool(),
        torch.tensor([0]), True, horizon, [["a"]],
    )  # fmt: skip
    return measure(subgoals, given_places([0, 1], 1.0, subgoals))


def test_a_walk_that_is_foreseen() -> None:
    measured = walk([(0, 1), (0, 2), (0, 3)], [(0, 0), (0, 1), (0, 2), (0, 3)], horizon=2)
    assert measured.hits is not None
    assert [compared.inferred.mean for compared in measured.hits] == [1.0, 1.0, 1.0]
    assert [compared.stay.mean for compared in measured.hits] == [1.0, 0.0, 0.0]
    assert measured.errors[0].inferred.mean == 0.0
    assert measured.errors[0].stay.mean == 0.5
    assert measured.errors[1].stay.mean == 2.0
    assert measured.errors[0].inferred.low == -math.inf  # of one episode nothing more is known


def test_repeated_hits_count_once_and_what_came_before_is_none() -> None:
    measured = walk([(3, 3), (3, 3), (0, 0)], [(0, 0), (1, 1), (2, 2), (3, 3)], horizon=1)
    assert measured.hits is not None
    ratio, later, within = measured.hits
    assert ratio.inferred.mean == pytest.approx(1 / 3)
    assert later.inferred.mean == pytest.approx(2 / 3)
    assert within.inferred.mean == 0.0


def test_a_horizon_longer_than_every_episode() -> None:
    measured = walk([(0, 0)], [(0, 0), (1, 1)], horizon=5)
    assert len(measured.errors) == 1
    assert measured.distances is not None
    assert len(measured.distances) == 1


def test_a_cell_has_its_place_in_the_middle() -> None:
    given = torch.tensor([[0.49, 0.5], [-0.5, -0.51], [2.2, 2.8]])
    assert cells(given, 1.0).tolist() == [[0, 1], [0, -1], [2, 3]]
    assert cells(given, 2.0).tolist() == [[0, 0], [0, 0], [1, 1]]


def test_an_interval_is_over_episodes_and_the_mean_over_steps() -> None:
    lengths = torch.tensor([1, 9] * 30)
    windows = windows_of(lengths, torch.ones(int(lengths.sum()) + 60).bool(), until_absent=True)
    values = (windows.episode % 2).double()  # 1 at the steps of the long ones
    interval = pooled(values, windows, windows.counts)
    assert interval.mean == pytest.approx(0.9)
    assert 0.8 < interval.low < 0.88
    assert 0.92 < interval.high < 0.97
    assert pooled(values * 0 + 2, windows, windows.counts) == Interval(2.0, 2.0, 2.0)


# Where places are.


def test_places_by_the_learners_observation() -> None:
    subgoals = foretold(0, LENGTHS)
    spec = EpisodeSpec.of(n_agents=3, n_actions=2, episode_limit=9, obs_shape=(N_FEATURES,))
    places = laid_out(LAYOUT, spec, 1.0, subgoals)
    assert places.features.tolist() == [[[6, 7], [9, 10]]] * len(LENGTHS)
    there = places_at(subgoals.seen, places, subgoals)
    assert torch.equal(there, subgoals.seen[:, [6, 7, 9, 10]].view(-1, 2, 2))


def test_places_in_the_state_are_those_that_the_learner_observes() -> None:
    spec = EpisodeSpec.of(n_agents=3, n_actions=2, episode_limit=9, obs_shape=(N_FEATURES,))
    alone = foretold(0, LENGTHS)
    seen = torch.randn(len(alone.seen), 3, N_FEATURES)
    seat = alone.seat.repeat_interleave(alone.lengths + 1)
    seen[torch.arange(len(seen)), seat] = alone.seen
    state = seen.flatten(1)
    scale = torch.ones(state.shape[1])
    subgoals = foretold(0, LENGTHS, seen=state, decoded=state, redecoded=state, scale=scale)
    assert len({*alone.seat.tolist()}) > 1
    in_state, in_obs = (places_at(of.seen, laid_out(LAYOUT, spec, 1.0, of), of) for of in (subgoals, alone))
    assert torch.equal(in_state, in_obs)


def test_a_feature_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"^positions: given 12, want 0 <= feature < 12$"):
        given_places([0, 12], 1.0, foretold(0, LENGTHS))


def test_without_places_there_are_errors_alone() -> None:
    measured = measure(foretold(1, LENGTHS), None)
    assert measured.hits is None
    assert measured.distances is None
    scale = foretold(1, LENGTHS).scale
    assert measured.own_error.mean == pytest.approx(float((0.5 / scale).square().mean()), rel=1e-5)


def test_wider_cells_are_hit_more_often() -> None:
    subgoals = foretold(2, LENGTHS)
    features = given_places([6, 7], 1.0, subgoals).features
    rates = []
    for cell in (0.5, 1.0, 8.0):
        hits = measure(subgoals, Places(features, cell)).hits
        assert hits is not None
        rates.append(hits.later.inferred.mean)
    assert rates[0] < rates[1] < rates[2]
