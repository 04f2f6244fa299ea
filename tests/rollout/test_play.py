"""One episode for each seed, in the order of the seeds, wherever they are played and whatever is lost."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from endmark.episodes import EpisodeBatch
from endmark.rollout import InProcess, Lockstep, Workers, WorkerWarning, play
from support.helpers import assert_same_episodes
from support.losing import Losing
from support.scripted import ByObservation, Scripted, length_of
from support.troubled import InStepOnce

SEEDS = [7, 3, 20, 4, 11, 2, 16, 9, 5, 13, 7, 25]  # one of them twice


def alone(seeds: Iterable[int]) -> EpisodeBatch:
    """Each episode by itself."""
    envs = InProcess([Scripted()])
    return EpisodeBatch.cat([play(envs, ByObservation(), [seed]) for seed in seeds])


@pytest.mark.parametrize("n_envs", [1, 2, 5, 30])
def test_in_the_order_of_the_seeds(n_envs: int) -> None:
    batch = play(InProcess([Scripted() for _ in range(n_envs)]), ByObservation(), SEEDS)
    assert_same_episodes(batch, alone(SEEDS))
    assert batch.lengths.tolist() == [length_of(seed) for seed in SEEDS]


@pytest.mark.parametrize(("workers", "envs_per_worker"), [(1, 3), (2, 1)])
def test_in_the_order_of_the_seeds_with_workers(workers: int, envs_per_worker: int) -> None:
    with closing(
        Workers(Scripted, Scripted().spec, workers=workers, envs_per_worker=envs_per_worker)
    ) as envs:
        for seeds in (SEEDS, SEEDS[::-1], SEEDS[3:4]):  # the same environments, again
            assert_same_episodes(play(envs, ByObservation(), seeds), alone(seeds))


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("at", [{7: 0}, {3: 1, 7: 4}, {7: 9, 20: 0, 25: 2}])
def test_a_lost_episode_is_played_again(n_envs: int, at: dict[int, int]) -> None:
    """At its first frame, in the middle, and with its last step."""
    envs = Losing(n_envs, at)
    assert_same_episodes(play(envs, ByObservation(), SEEDS), alone(SEEDS))
    assert envs.at == {}


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_rollout_drops_a_lost_episode_unless_it_is_to_try_again(n_envs: int) -> None:
    for retry, lost in [(False, {3, 13}), (True, set())]:
        rollout, policy = Lockstep(Losing(n_envs, {3: 1, 13: 0}), SEEDS, retry=retry), ByObservation()
        ended: list[int] = []
        while rollout.running:
            rollout.collect(policy)
            ended += rollout.ended_seeds
        assert sorted(ended) == sorted(seed for seed in SEEDS if seed not in lost)


def test_nothing_is_handed_over_when_the_last_episode_is_lost() -> None:
    rollout, policy = Lockstep(Losing(1, {4: 1}), [3, 4]), ByObservation()
    rollout.collect(policy)
    assert rollout.running
    with pytest.raises(RuntimeError, match="collect: no episode is running"):
        rollout.collect(policy)
    assert rollout.episodes == 1


def test_an_episode_lost_with_its_worker_is_played_again(tmp_path: Path) -> None:
    make_env = partial(InStepOnce, "kill", frozenset([7, 25]), tmp_path)
    with closing(Workers(make_env, Scripted().spec, workers=2, envs_per_worker=2)) as envs:
        with pytest.warns(WorkerWarning, match="killed by SIGKILL") as warned:
            batch = play(envs, ByObservation(), SEEDS)
        assert len(warned) == 2
    assert_same_episodes(batch, alone(SEEDS))
