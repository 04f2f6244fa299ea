"""On-policy from end to end: each episode that was begun is learned from once, however long it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from endmark.episodes import EpisodeBatch, Fresh
from endmark.rollout import InProcess, Lockstep
from support.scripted import LIMIT, ByObservation, Scripted, length_of

SEEDS = list(range(3, 60))  # of every length from 1 to LIMIT


def seeds_of(batch: EpisodeBatch | None) -> list[int]:
    return [] if batch is None else batch.state[batch.first_frames, 0].long().tolist()


@pytest.mark.parametrize("n_envs", [1, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_every_episode_begun_is_used_exactly_once(n_envs: int, batch_size: int) -> None:
    begun: list[int] = []

    def seeds() -> Iterator[int]:
        for seed in SEEDS:
            begun.append(seed)
            yield seed

    envs = [Scripted() for _ in range(n_envs)]
    rollout, fresh, policy = (
        Lockstep(InProcess(envs), seeds()),
        Fresh(envs[0].spec, batch_size),
        ByObservation(),
    )
    used: list[int] = []
    ended: list[int] = []
    while rollout.running:
        episodes = rollout.collect(policy)
        ended += rollout.ended_seeds
        fresh.add(episodes)
        for batch in fresh.due():
            assert batch.n_episodes == batch_size
            used += seeds_of(batch)
            assert batch.lengths.tolist() == [length_of(seed) for seed in seeds_of(batch)]
        # At every moment: what was begun is used, or waits, or runs.
        waiting = seeds_of(fresh.episodes())
        running = [episode["seed"] for episode in rollout.state_dict()["running"]]
        assert len(waiting) < batch_size
        assert sorted(used + waiting + running) == begun
        assert used + waiting == ended
    assert begun == SEEDS
    assert running == []
    assert len(used) == len(SEEDS) // batch_size * batch_size
    used += waiting
    assert sorted(used) == begun
    # So each length has the share that it has among the episodes begun: short ones are not preferred.
    assert share_of_lengths(used) == share_of_lengths(begun)
    assert share_of_lengths(used).keys() == set(range(1, LIMIT + 1))


def share_of_lengths(seeds: list[int]) -> dict[int, float]:
    return {n: count / len(seeds) for n, count in Counter(map(length_of, seeds)).items()}
