"""Prioritised samples: against loops, and by how often each episode is drawn."""

from __future__ import annotations

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endmark.episodes import EpisodeBatch, EpisodeReplay, Replay, priorities
from support.helpers import assert_same_episodes, make_batch, make_spec

LIMIT = 6
SPEC = make_spec(n_agents=2, n_actions=3, limit=LIMIT)
some = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prioritised(batch_size: int = 4, *, exponent: float = 0.6, beta: float = 0.4, seed: int = 0) -> Replay:
    return Replay(
        SPEC, 30, batch_size=batch_size, every=1, generator=generator(seed), exponent=exponent, beta=beta
    )


def episodes(lengths: list[int], seed: int = 0) -> EpisodeBatch:
    return make_batch(SPEC, lengths, [length % 2 == 0 for length in lengths], seed=seed)


def serials_of(batch: EpisodeBatch) -> list[int]:
    return [int(x) for x in batch["serial"][batch.first_frames]]


# --- equations ---


@given(st.lists(st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=9), min_size=1, max_size=9))
def test_an_episodes_priority_is_that_of_a_loop(errors: list[list[float]]) -> None:
    lengths = torch.tensor([len(own) for own in errors])
    got = priorities.of_episodes(torch.tensor([x for own in errors for x in own]).double(), lengths)
    want = [0.9 * max(own) + 0.1 * sum(own) / len(own) + 1e-6 for own in errors]
    torch.testing.assert_close(got, torch.tensor(want).double(), rtol=1e-6, atol=1e-12)


@given(some, st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 9), st.integers(0, 99))
def test_a_draw_is_that_of_a_loop_over_parts_of_the_total(
    values: list[float], exponent: float, n: int, seed: int
) -> None:
    probability = priorities.probabilities(np.array(values), exponent)
    total = sum(value**exponent for value in values)
    np.testing.assert_allclose(probability, [value**exponent / total for value in values], rtol=1e-12)
    drawn = priorities.draw(probability, n, generator(seed))
    uniform = torch.rand(n, generator=generator(seed), dtype=torch.float64).tolist()
    for part, point, found in zip(range(n), uniform, drawn.tolist(), strict=True):
        left, wanted = (part + point) / n, len(values) - 1
        for index, share in enumerate(probability):
            left -= share
            if left < 0:
                wanted = index
                break
        if found != wanted:  # the loop's rounding is another: the point must be at the border of the two
            border = probability[: max(found, wanted)].sum()
            assert math.isclose((part + point) / n, border, rel_tol=1e-9)
            assert (
                abs(found - wanted) == 1
                or probability[min(found, wanted) + 1 : max(found, wanted)].sum() < 1e-9
            )


@given(some, st.sampled_from([0.0, 0.4, 1.0]))
def test_weights_are_those_of_a_loop(values: list[float], beta: float) -> None:
    probability = priorities.probabilities(np.array(values), 0.7)
    weight = [(len(values) * share) ** -beta for share in probability]
    want = torch.tensor([float(w / max(weight)) for w in weight])
    torch.testing.assert_close(priorities.importance(probability, beta), want, rtol=1e-5, atol=0)


def test_each_episode_is_drawn_as_often_as_its_priority_says() -> None:
    """A chi-squared test with 9 degrees of freedom: 33.7 is passed by chance once in 10,000 times."""
    values = np.array([0.01, 5.0, 1.0, 1.0, 0.3, 2.0, 7.0, 0.1, 1.0, 0.5])
    source, n_draws = generator(3), 4000
    for exponent in (0.5, 1.0):
        probability = priorities.probabilities(values, exponent)
        counts: Counter[int] = Counter()
        for _ in range(n_draws):
            counts.update(priorities.draw(probability, 5, source).tolist())
        expected = 5 * n_draws * probability
        squared = sum((counts[i] - expected[i]) ** 2 / expected[i] for i in range(10))
        assert squared < 33.7
    uniform = np.full(10, 2000.0)  # and the test sees other frequencies
    assert sum((counts[i] - uniform[i]) ** 2 / uniform[i] for i in range(10)) > 1000


def test_with_beta_1_the_weighted_mean_is_that_of_uniform_draws() -> None:
    """Σ P(e) w(e) x(e) is proportional to Σ x(e), exactly, over all episodes."""
    values = np.array([0.2, 3.0, 1.0, 0.7])
    probability = priorities.probabilities(values, 0.8)
    weight = priorities.importance(probability, 1.0).double().numpy()
    np.testing.assert_allclose(probability * weight, probability.min(), rtol=1e-6)


# --- the ring ---


def test_an_episode_that_is_overwritten_loses_its_priority() -> None:
    replay = EpisodeReplay(SPEC, 9)
    replay.add(episodes([2, 2, 2]), 1.0)
    replay.prioritise(torch.tensor([0, 1, 2]), torch.tensor([5.0, 6.0, 7.0]))
    assert replay.priorities.tolist() == [5.0, 6.0, 7.0]
    replay.add(episodes([3], 1), 2.5)  # in the place of the two oldest
    assert replay.first_serial == 2
    assert replay.priorities.tolist() == [7.0, 2.5]
    replay.prioritise(torch.tensor([0, 3, 1]), torch.tensor([100.0, 3.0, 200.0]))  # two of which are gone
    assert replay.priorities.tolist() == [7.0, 3.0]


@given(
    st.lists(
        st.tuples(st.integers(1, LIMIT), st.integers(0, 40), st.floats(0.125, 8, width=16)),
        min_size=1,
        max_size=40,
    )
)
def test_the_ring_keeps_priorities_as_a_list_would(history: list[tuple[int, int, float]]) -> None:
    replay, naive, added = EpisodeReplay(SPEC, 20), {}, 0
    for length, serial, value in history:
        replay.add(episodes([length]), value)
        naive[added], added = value, added + 1
        naive = {kept: naive[kept] for kept in range(replay.first_serial, added)}
        if serial < added:
            replay.prioritise(torch.tensor([serial]), torch.tensor([2 * value]))
            naive |= {serial: 2 * value} if serial in naive else {}
        assert replay.priorities.tolist() == list(naive.values())


# --- the store ---


def test_a_sample_says_what_each_episode_weighs_and_who_it_is() -> None:
    store = prioritised(batch_size=4, exponent=0.5, beta=1.0)
    store.add(episodes([2, 3, 1, 4]))
    (first,) = store.due()
    assert serials_of(first) == sorted(serials_of(first)), "from the oldest to the newest"
    assert first.steps("importance").tolist() == [1.0] * first.n_steps, "all are new, and so alike"
    store.prioritise(torch.tensor([0, 1, 2, 3]), torch.tensor([1.0, 4.0, 9.0, 16.0]))
    store.add(episodes([5], 1))  # as likely as the largest
    probability = np.array([1, 2, 3, 4, 4]) / 14
    for sample in store.due():
        drawn = serials_of(sample)
        want = probability[drawn] ** -1.0 / max(probability[drawn] ** -1.0)
        start = 0
        for e, length in enumerate(sample.lengths.tolist()):
            assert sample.steps("importance")[start : start + length].tolist() == pytest.approx(
                [want[e]] * length
            )
            assert sample.steps("serial")[start : start + length].tolist() == [drawn[e]] * length
            start += length
        assert_same_episodes(
            EpisodeBatch(
                SPEC, {name: sample[name] for name in SPEC.fields}, sample.lengths, sample.terminated
            ),
            store.memory.episodes().select(drawn),
        )


def test_new_episodes_have_the_largest_priority_so_far() -> None:
    store = prioritised(batch_size=2)
    store.add(episodes([1, 1]))
    store.prioritise(torch.tensor([0, 1]), torch.tensor([0.5, 12.0]))
    store.add(episodes([1], 1))
    assert store.memory.priorities.tolist() == [0.5, 12.0, 12.0]
    store.prioritise(torch.tensor([1]), torch.tensor([0.25]))
    store.add(episodes([1], 2))
    assert store.memory.priorities.tolist() == [0.5, 0.25, 12.0, 12.0]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.0, -1.0])
def test_a_priority_that_is_none_is_refused(wrong: float) -> None:
    store = prioritised()
    store.add(episodes([1, 1]))
    said = f"priority: given {wrong}, want a finite number above 0: have the values diverged?"
    with pytest.raises(ValueError, match=said):
        store.prioritise(torch.tensor([0, 1]), torch.tensor([1.0, wrong]))
    assert store.memory.priorities.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(6))
def test_a_state_goes_on_as_the_store_would_have(seed: int) -> None:
    source = generator(seed)
    store = prioritised(seed=seed)

    def play(store: Replay, source: torch.Generator, rounds: int) -> list[list[float]]:
        seen = []
        for _ in range(rounds):
            store.add(episodes(torch.randint(1, LIMIT + 1, (2,), generator=source).tolist()))
            for batch in store.due():
                seen.append([*batch["importance"].tolist(), *batch["obs"].flatten().tolist()])
                store.prioritise(
                    batch["serial"][batch.first_frames], torch.rand(batch.n_episodes, generator=source) + 0.1
                )
        return seen

    play(store, source, 9)
    state, kept = copy.deepcopy(store.state_dict()), source.get_state()
    want = play(store, source, 6)
    other = prioritised(seed=seed + 1)
    play(other, generator(5), 3)
    other.load_state_dict(state)
    source.set_state(kept)
    assert play(other, source, 6) == want
    assert other.memory.priorities.tolist() == store.memory.priorities.tolist()


def test_a_uniform_store_has_neither_fields_nor_priorities() -> None:
    store = prioritised(exponent=0.0)
    store.add(episodes([1, 2, 3, 4]))
    (batch,) = store.due()
    assert batch.spec == SPEC
    assert sorted(store.state_dict()) == ["counts", "generator", "memory"]
