"""Which batches are due, against lists; and that a store that was saved goes on as it would have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endmark.episodes import EpisodeBatch, EpisodeReplay, Fresh, Replay, SampleBuffer, Store
from support.helpers import assert_same_episodes, make_batch, make_spec, random_batch

LIMIT = 6
SPEC = make_spec(n_agents=2, n_actions=3, limit=LIMIT, extra=True)
adds = st.lists(st.lists(st.integers(1, LIMIT), min_size=1, max_size=5), min_size=1, max_size=12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def replay_of(batch_size: int, every: int, *, capacity: int = 100, seed: int = 0) -> Replay:
    capacity = max(capacity, batch_size * (LIMIT + 1))
    return Replay(SPEC, capacity, batch_size=batch_size, every=every, generator=generator(seed))


def batch_of(lengths: list[int], seed: int) -> EpisodeBatch:
    return make_batch(SPEC, lengths, [(length + seed) % 2 == 0 for length in lengths], seed=seed)


def names(batch: EpisodeBatch | None) -> list[float]:
    """An episode is known by its content, which is random."""
    return [] if batch is None else batch.obs[batch.first_frames, 0, 0].tolist()


def assert_all_same(given_: list[EpisodeBatch], want: list[EpisodeBatch]) -> None:
    for one, other in zip(given_, want, strict=True):
        assert_same_episodes(one, other)


def test_they_are_stores() -> None:
    assert isinstance(replay_of(1, 1), Store)
    assert isinstance(Fresh(SPEC, 1), Store)


# Replay.


@given(adds, st.integers(1, 6), st.integers(1, 5))
def test_replay_is_the_naive_list(lengths: list[list[int]], batch_size: int, every: int) -> None:
    """An update for every so many episodes, from the moment that enough are stored."""
    replay = replay_of(batch_size, every, capacity=30)
    stored: list[EpisodeBatch] = []
    waiting = 0
    for seed, numbers in enumerate(lengths):
        batch, due = batch_of(numbers, seed), 0
        replay.add(batch)
        for episode in batch.split():
            stored.append(episode)
            waiting += 1
            if waiting >= every and len(stored) >= batch_size:
                due, waiting = due + 1, 0
        while sum(episode.n_frames for episode in stored) > max(30, batch_size * (LIMIT + 1)):
            stored.pop(0)
        samples = list(replay.due())
        assert len(samples) == due
        here = {names(episode)[0]: episode for episode in stored}
        for sample in samples:
            drawn = names(sample)
            assert len(set(drawn)) == batch_size
            assert_same_episodes(sample, EpisodeBatch.cat([here[name] for name in drawn]))
        assert list(replay.due()) == []
        assert names(replay.episodes()) == list(here)


def test_updates_that_were_missed_are_not_made_up_for() -> None:
    replay, due = replay_of(4, 1), []
    for seed in range(6):
        replay.add(batch_of([2], seed))
        due.append(len(list(replay.due())))
    assert due == [0, 0, 0, 1, 1, 1]
    replay = replay_of(4, 1)
    replay.add(batch_of([2] * 6, 0))
    assert len(list(replay.due())) == 3  # from the fourth episode on


def test_every_counts_episodes() -> None:
    replay, due = replay_of(1, 3), []
    for seed in range(7):
        replay.add(batch_of([2], seed))
        due.append(len(list(replay.due())))
    assert due == [0, 0, 1, 0, 0, 1, 0]
    replay.add(batch_of([1] * 5, 7))  # now six wait
    assert len(list(replay.due())) == 2


def test_nothing_is_stored_at_first() -> None:
    for store in (replay_of(2, 1), Fresh(SPEC, 2)):
        assert store.episodes() is None
        assert list(store.due()) == []


def test_a_replay_too_small_for_a_batch_is_refused() -> None:
    """By the name of the setting that is wrong."""
    with pytest.raises(
        ValueError,
        match="replay_frames: given 27, want at least 28, which holds batch_size 4 episodes of 6 steps",
    ):
        Replay(SPEC, 27, batch_size=4, every=1, generator=generator())
    Replay(SPEC, 28, batch_size=4, every=1, generator=generator())


def test_samples_are_put_into_the_buffer() -> None:
    buffered = Replay(SPEC, 100, batch_size=3, every=1, generator=generator(), buffer=SampleBuffer())
    plain = replay_of(3, 1)
    places = set()
    for seed in range(8):
        for replay in (buffered, plain):
            replay.add(batch_of([4], seed))
        for one, other in zip(buffered.due(), plain.due(), strict=True):
            assert_same_episodes(one, other)
            places.add(one.obs.data_ptr())
    assert len(places) == 1


# Fresh.


@given(adds, st.integers(1, 6))
def test_every_episode_is_used_once_in_the_order_of_the_ends(lengths: list[list[int]], size: int) -> None:
    fresh = Fresh(SPEC, size)
    waiting: list[EpisodeBatch] = []
    for seed, numbers in enumerate(lengths):
        fresh.add(batch_of(numbers, seed))
        waiting += batch_of(numbers, seed).split()
        for batch in fresh.due():
            assert_same_episodes(batch, EpisodeBatch.cat(waiting[:size]))
            del waiting[:size]
        assert len(waiting) < size
        assert names(fresh.episodes()) == [names(episode)[0] for episode in waiting]


def test_another_spec_is_refused() -> None:
    for store in (replay_of(2, 1), Fresh(SPEC, 2)):
        with pytest.raises(ValueError, match="add: the batch has another spec than this"):
            store.add(random_batch(0, limit=LIMIT + 1))
        assert store.episodes() is None


# States.


@pytest.mark.parametrize(
    "make", [lambda seed: replay_of(3, 2, capacity=30, seed=seed), lambda _: Fresh(SPEC, 3)]
)
@given(adds, st.integers(0, 11), st.integers(0, 2))
def test_a_state_goes_on_as_the_store_would_have(
    make: Callable[[int], Store], lengths: list[list[int]], when: int, taken: int
) -> None:
    """Saved before, between and after the batches that are due, and loaded into one that was used."""
    when %= len(lengths)
    store, other = make(0), make(1)
    other.add(batch_of([1, 2, 3, 4], 99))
    for seed, numbers in enumerate(lengths[: when + 1]):
        store.add(batch_of(numbers, seed))
        if seed < when:
            list(store.due())
    due = store.due()
    for _ in range(taken):
        next(due, None)
    other.load_state_dict(store.state_dict())
    want, given_ = list(due), list(other.due())
    for seed, numbers in enumerate(lengths, 50):
        for one, batches in [(store, want), (other, given_)]:
            one.add(batch_of(numbers, seed))
            batches += one.due()
    assert_all_same(given_, want)
    assert names(other.episodes()) == names(store.episodes())


@pytest.mark.parametrize(
    "make", [lambda: replay_of(3, 2), lambda: Fresh(SPEC, 3), lambda: EpisodeReplay(SPEC, 9)]
)
def test_a_state_is_a_copy_and_an_empty_one_empties(
    make: Callable[[], Replay | Fresh | EpisodeReplay],
) -> None:
    empty, used = make(), make()
    nothing = empty.state_dict()
    used.add(batch_of([2, 3], 0))
    state = used.state_dict()
    empty.load_state_dict(state)
    used.load_state_dict(nothing)
    used.add(batch_of([5], 1))
    other = make()
    other.load_state_dict(state)
    for store in (empty, other):
        assert_same_episodes(_held(store), batch_of([2, 3], 0))
    assert_same_episodes(_held(used), batch_of([5], 1))


@given(st.lists(st.integers(1, LIMIT), min_size=8, max_size=20), st.integers(7, 30), st.integers(0, 99))
def test_the_ring_goes_on_from_its_state_after_a_wrap_around(
    lengths: list[int], capacity: int, seed: int
) -> None:
    """Its episodes lie elsewhere in the storage then, which must not matter."""
    ring, other = EpisodeReplay(SPEC, capacity), EpisodeReplay(SPEC, capacity)
    other.add(batch_of([3], 99))
    ring.add(batch_of(lengths, seed))
    other.load_state_dict(ring.state_dict())
    for more in range(4):
        assert len(other) == len(ring)
        assert other.n_frames == ring.n_frames
        assert_same_episodes(other.episodes(), ring.episodes())
        for n in (1, len(ring)):
            assert_same_episodes(other.sample(n, generator(more)), ring.sample(n, generator(more)))
        for one in (ring, other):
            one.add(batch_of([1 + (more * 3) % LIMIT], 200 + more))


def _held(store: Replay | Fresh | EpisodeReplay) -> EpisodeBatch:
    held = store.episodes()
    assert held is not None
    return held
