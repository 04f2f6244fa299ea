from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from endmark.episodes import EpisodeBatch, EpisodeReplay, SampleBuffer
from support.helpers import assert_same_episodes, make_batch, make_spec, random_batch

LIMIT = 6
SPEC = make_spec(n_agents=2, n_actions=3, limit=LIMIT, extra=True)


class NaiveReplay:
    """A list of episodes that does the same."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.episodes: list[EpisodeBatch] = []

    def n_frames(self) -> int:
        return sum(episode.n_frames for episode in self.episodes)

    def add(self, batch: EpisodeBatch) -> None:
        for episode in batch.split():
            self.episodes.append(episode)
            while self.n_frames() > self.capacity:
                self.episodes.pop(0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_bits(given_: EpisodeBatch, want: EpisodeBatch) -> bool:
    """Whether all is equal, also what is undefined: garbage is stored as it came."""
    return all(
        torch.equal(given_[name].nan_to_num(12.0), want[name].nan_to_num(12.0)) for name in want.fields
    )


operation = st.one_of(
    st.tuples(st.just("add"), st.lists(st.integers(1, LIMIT), min_size=1, max_size=4)),
    st.tuples(st.just("sample"), st.lists(st.integers(0, 99), min_size=2, max_size=2)),
)


@settings(max_examples=80)
@given(
    st.one_of(st.sampled_from([2, 3, 5]), st.integers(2, 40)),
    st.lists(operation, min_size=1, max_size=20),
)
def test_the_ring_is_the_naive_list(capacity: int, operations: list[tuple[str, list[int]]]) -> None:
    replay, naive = EpisodeReplay(SPEC, capacity), NaiveReplay(capacity)
    for seed, (what, numbers) in enumerate(operations):
        if what == "add":
            ended = [bool((length + seed) % 2) for length in numbers]
            batch = make_batch(SPEC, numbers, ended, seed=seed)
            if max(numbers) + 1 > capacity:
                with pytest.raises(ValueError, match="want at most the capacity"):
                    replay.add(batch)
            else:
                replay.add(batch)
                naive.add(batch)
        elif naive.episodes:
            n = 1 + numbers[0] % len(naive.episodes)
            drawn = replay.sample(n, generator(numbers[1])).split()
            assert len(drawn) == n
            # Content is random, so an episode is known by it.
            names = [episode.obs[0, 0, 0].item() for episode in naive.episodes]
            places = [names.index(episode.obs[0, 0, 0].item()) for episode in drawn]
            assert len(set(places)) == n
            for episode, place in zip(drawn, places, strict=True):
                assert_same_episodes(episode, naive.episodes[place])
        assert len(replay) == len(naive.episodes)
        assert replay.n_frames == naive.n_frames()
        if naive.episodes:
            want = EpisodeBatch.cat(naive.episodes)
            assert_same_episodes(replay.episodes(), want)
            assert same_bits(replay.episodes(), want)


def test_wrap_around() -> None:
    """7 frames: three, then three, then three that begin in the last frame of the storage."""
    batch = make_batch(SPEC, [2, 2, 2], [True, False, True])
    replay = EpisodeReplay(SPEC, 7)
    for episode, stored in zip(batch.split(), [1, 2, 2], strict=True):
        replay.add(episode)
        assert len(replay) == stored
    assert replay.n_frames == 6
    assert_same_episodes(replay.episodes(), EpisodeBatch.cat(batch.split()[1:]))


@pytest.mark.parametrize("capacity", [2, 3, 5])
def test_smallest_capacities(capacity: int) -> None:
    replay, naive = EpisodeReplay(SPEC, capacity), NaiveReplay(capacity)
    for seed, length in enumerate([1, 1, capacity - 1, 1, capacity - 1, 1, 1, 1, 1]):
        batch = make_batch(SPEC, [length], [True], seed=seed)
        replay.add(batch)
        naive.add(batch)
        assert_same_episodes(replay.episodes(), EpisodeBatch.cat(naive.episodes))
    assert len(replay) == capacity // 2


@pytest.mark.parametrize("capacity", [-1, 0, 1])
def test_a_capacity_below_one_step_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity: given {capacity} frames, want at least 2"):
        EpisodeReplay(SPEC, capacity)


def test_a_shorter_episode_over_a_longer_one() -> None:
    long, short = make_batch(SPEC, [6, 1], [False, True]).split()
    replay = EpisodeReplay(SPEC, 7)
    replay.add(long)
    replay.add(short)
    assert_same_episodes(replay.episodes(), short)
    assert same_bits(replay.episodes(), short)
    assert replay.n_frames == 2
    assert_same_episodes(replay.sample(1, generator(0)), short)


def test_an_episode_longer_than_the_capacity_changes_nothing() -> None:
    replay = EpisodeReplay(SPEC, 6)
    stored = make_batch(SPEC, [2, 2], [True, False])
    replay.add(stored)
    with pytest.raises(ValueError, match="add: episode 1: given 7 frames, want at most the capacity, 6"):
        replay.add(make_batch(SPEC, [1, 6, 1], [True, True, True], seed=1))
    assert_same_episodes(replay.episodes(), stored)


def test_what_is_stored_is_a_copy() -> None:
    batch = make_batch(SPEC, [2, 2], [True, False])
    want = EpisodeBatch.cat([batch])
    replay = EpisodeReplay(SPEC, 20)
    replay.add(batch)
    batch.obs.fill_(7)
    drawn = replay.sample(2, generator(0))
    drawn.obs.fill_(8)
    assert_same_episodes(replay.episodes(), want)


def test_another_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="add: the batch has another spec than this replay"):
        EpisodeReplay(SPEC, 20).add(random_batch(0, limit=LIMIT + 1))


@pytest.mark.parametrize("n", [-1, 0, 4])
def test_a_sample_that_is_not_there(n: int) -> None:
    replay = EpisodeReplay(SPEC, 20)
    replay.add(make_batch(SPEC, [1, 2, 3], [True, True, False]))
    with pytest.raises(ValueError, match=f"sample: given n = {n}, want 1 <= n <= 3"):
        replay.sample(n, generator(0))


def test_sample_is_uniform_without_replacement() -> None:
    """Every pair of six equally often: 3000 draws, 200 a pair, five standard deviations."""
    lengths = [1, 6, 2, 3, 6, 1, 4]
    replay = EpisodeReplay(SPEC, sum(lengths) + len(lengths) - 1)  # the first is evicted
    for seed, length in enumerate(lengths):
        episode = make_batch(SPEC, [length], [True], seed=seed)
        episode.obs[:] = seed
        replay.add(episode)
    source = generator(0)
    firsts: Counter[int] = Counter()
    pairs: Counter[tuple[int, ...]] = Counter()
    for _ in range(3000):
        drawn = replay.sample(2, source)
        places = [int(x) for x in drawn.obs[drawn.first_frames, 0, 0]]
        firsts[places[0]] += 1
        pairs[tuple(sorted(places))] += 1
    assert set(pairs) == set(itertools.combinations(range(1, 7), 2))
    assert all(abs(count - 200) < 5 * 13.7 for count in pairs.values()), pairs
    assert all(abs(count - 500) < 5 * 20.4 for count in firsts.values()), firsts


def test_sample_is_reproducible() -> None:
    replay = EpisodeReplay(SPEC, 100)
    replay.add(random_batch(0, n_episodes=12, spec=SPEC))
    global_state = torch.get_rng_state()
    first, second = ([replay.sample(3, source) for _ in range(4)] for source in (generator(5), generator(5)))
    for a, b in zip(first, second, strict=True):
        assert_same_episodes(a, b)
    other = replay.sample(3, generator(6))
    assert not torch.equal(other.obs[0], first[0].obs[0])
    assert not torch.equal(first[1].obs[0], first[0].obs[0])
    assert torch.equal(torch.get_rng_state(), global_state)


def test_memory() -> None:
    """A byte for each legal action, and nothing one-hot."""
    spec = make_spec(n_agents=3, n_actions=4, state=True)
    frame = {
        "obs": 3 * 5 * 4,
        "avail_actions": 3 * 4 * 1,
        "alive": 3 * 1,
        "actions": 3 * 8,
        "reward": 4,
        "state": 4 * 4,
    }
    replay = EpisodeReplay(spec, 10)
    assert replay.n_bytes == 10 * sum(frame.values())
    batch = random_batch(0, n_episodes=1, spec=spec)
    replay.add(batch)
    assert replay.n_bytes == 10 * sum(frame.values())
    assert replay.episodes().avail_actions.element_size() == 1
    stored = sum(tensor[0].numel() * tensor.element_size() for tensor in replay.episodes().fields.values())
    assert stored == sum(frame.values())


@settings(max_examples=40)
@given(st.lists(st.integers(1, LIMIT), min_size=3, max_size=12), st.integers(0, 99))
def test_a_buffer_changes_nothing_but_where_the_batch_is(lengths: list[int], seed: int) -> None:
    replay, buffer = EpisodeReplay(SPEC, 60), SampleBuffer()
    replay.add(make_batch(SPEC, lengths, [length % 2 == 0 for length in lengths]))
    for n in (2, 1, 3):
        want = replay.sample(n, generator(seed))
        given_ = replay.sample(n, generator(seed), buffer)
        assert torch.equal(given_.lengths, want.lengths)
        assert torch.equal(given_.terminated, want.terminated)
        assert same_bits(given_, want)


def test_a_buffer_is_used_again_and_grows() -> None:
    replay, buffer = EpisodeReplay(SPEC, 60), SampleBuffer()
    replay.add(make_batch(SPEC, [2, 2, 5, 5], [True] * 4))
    large = replay.sample(4, generator(0), buffer)
    places = {name: large[name].data_ptr() for name in SPEC.fields}
    small = replay.sample(1, generator(0), buffer)
    assert {name: small[name].data_ptr() for name in SPEC.fields} == places
    replay.add(make_batch(SPEC, [6, 6, 6], [True] * 3))
    larger = replay.sample(6, generator(0), buffer)
    assert larger.n_frames > large.n_frames * 5 / 4
    assert same_bits(larger, replay.sample(6, generator(0)))


def test_a_replay_larger_than_memory_is_refused_before_it_is_made() -> None:
    for capacity in (10**12, 10**15):
        said = (
            rf"^capacity: given {capacity} frames, which do not fit into memory: they take \d+\.\d GiB, and"
        )
        with pytest.raises(ValueError, match=said):
            EpisodeReplay(make_spec(), capacity)
