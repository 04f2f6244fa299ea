"""Who sits where: a function of the seed alone, fair, in groups."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endmark.policies import LEARNER, Seating


@st.composite
def seatings(draw: st.DrawFn) -> tuple[int, int, int, list[int] | None, int | None]:
    n_agents = draw(st.integers(2, 8))
    allowed = draw(st.none() | st.lists(st.integers(0, n_agents - 1), min_size=1, unique=True))
    most = min(n_agents - 1, n_agents if allowed is None else len(allowed))
    learners = draw(st.integers(1, most))
    together = draw(st.none() | st.integers(1, n_agents - learners))
    return n_agents, draw(st.integers(1, 10)), learners, allowed, together


@given(seatings(), st.integers(0, 2**62))
def test_who_sits_where(options: tuple[Any, ...], seed: int) -> None:
    """The counts of every group, for anything that fits, asked in any order."""
    n_agents, n_members, learners, allowed, together = options

    def make() -> Seating:
        return Seating(n_agents, n_members, learners=learners, learner_agents=allowed, together=together)

    seats = make()(seed)
    other = make()
    other(seed + 1)
    assert np.array_equal(other(seed), seats), "of the seed alone"
    learning = [n for n in range(n_agents) if seats[n] == LEARNER]
    assert len(learning) == learners
    assert allowed is None or set(learning) <= set(allowed)
    counts = Counter(member for member in seats.tolist() if member != LEARNER)
    assert set(counts) <= set(range(n_members))
    n_partners = n_agents - learners
    group = n_partners if together is None else together
    n_groups = 1 + n_partners - group
    if n_groups <= n_members:
        assert sorted(counts.values()) == sorted([group] + [1] * (n_groups - 1))
    else:
        assert len(counts) == n_members, "all of the pool, before any comes twice"


@pytest.mark.parametrize(("together", "groups"), [(None, [7]), (7, [7]), (6, [1, 6]), (1, [1] * 7)])
def test_homologue_and_mixed_groups(together: int | None, groups: list[int]) -> None:
    seating = Seating(8, 10, together=together)
    for seed in range(200):
        counts = Counter(m for m in seating(seed).tolist() if m != LEARNER)
        assert sorted(counts.values()) == groups


def test_a_small_pool_is_used_evenly() -> None:
    seating = Seating(8, 3, together=1)
    for seed in range(100):
        counts = Counter(m for m in seating(seed).tolist() if m != LEARNER)
        assert sorted(counts.values()) == [2, 2, 3]


def close_to_even(counts: Counter[Any], n: int, kinds: int) -> None:
    """Within five standard deviations of a fair draw."""
    assert len(counts) == kinds
    p = 1 / kinds
    for kind, count in counts.items():
        assert abs(count - n * p) < 5 * (n * p * (1 - p)) ** 0.5, kind


def test_every_set_of_agents_learns_equally_often_and_every_member_sits_everywhere() -> None:
    n = 6000
    seating = Seating(4, 3, learners=2, together=1)
    learners, members = Counter[Any](), Counter[Any]()
    for seed in range(n):
        seats = seating(seed).tolist()
        learners[tuple(i for i in range(4) if seats[i] == LEARNER)] += 1
        members[tuple(m for m in seats if m != LEARNER)] += 1
    close_to_even(learners, n, len(list(itertools.combinations(range(4), 2))))
    close_to_even(members, n, len(list(itertools.permutations(range(3), 2))))


def test_neighbouring_and_far_seeds_are_of_one_kind() -> None:
    """The seeds of rollouts are large; evaluations and training differ in them alone."""
    for start, stride in [(0, 1), (2**61, 1), (7, 2**40)]:
        counts = Counter(int(np.argmin(Seating(2, 5)(start + stride * i))) for i in range(2000))
        close_to_even(counts, 2000, 2)


def test_only_some_agents_may_learn() -> None:
    seating = Seating(5, 2, learners=2, learner_agents=[4, 1, 1, 2])
    seen = Counter(int(n) for seed in range(600) for n in np.flatnonzero(seating(seed) == LEARNER))
    assert set(seen) == {1, 2, 4}
    assert min(seen.values()) > 300


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"learners": 0}, "learners: given 0, want 1 <= learners < 3, the number of agents"),
        ({"learners": 3}, "learners: given 3, want 1 <= learners < 3, the number of agents"),
        ({"learners": -1}, "learners: given -1, want 1 <= learners < 3, the number of agents"),
        ({"learner_agents": [0, 3]}, "learner_agents: given 3, want 0 <= agent < 3"),
        ({"learner_agents": [-1]}, "learner_agents: given -1, want 0 <= agent < 3"),
        ({"learner_agents": []}, "learners: given 1, want at most the 0 of learner_agents"),
        (
            {"learner_agents": [1, 1], "learners": 2},
            "learners: given 2, want at most the 1 of learner_agents",
        ),
        ({"together": 0}, "together: given 0, want 1 <= together <= 2, the partners"),
        ({"together": 3}, "together: given 3, want 1 <= together <= 2, the partners"),
        ({"together": 2, "learners": 2}, "together: given 2, want 1 <= together <= 1, the partners"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        Seating(3, 4, **options)
