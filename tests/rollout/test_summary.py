"""Summaries against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from endmark.episodes import EpisodeBatch
from endmark.rollout import InProcess, episode_returns, play, summarise
from endmark.rollout.summary import Interval, bootstrapped, share
from support.scripted import ByObservation, Scripted, length_of, logs_by_seed, outcomes_of, terminates

SEEDS = list(range(25))


@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_against_numpy(reward_per_agent: bool) -> None:
    env = Scripted(reward_per_agent=reward_per_agent)
    batch = play(InProcess([env]), ByObservation(), SEEDS)
    logs = logs_by_seed([env])
    returns = np.array([np.sum(logs[seed].reward, dtype=np.float64) for seed in SEEDS])
    np.testing.assert_allclose(episode_returns(batch), returns, rtol=1e-6)
    summary = summarise(batch)
    assert summary.episodes == len(SEEDS)
    np.testing.assert_allclose(summary.return_mean, returns.mean(), rtol=1e-6)
    np.testing.assert_allclose(summary.length_mean, np.mean([length_of(seed) for seed in SEEDS]))
    np.testing.assert_allclose(summary.terminated, np.mean([terminates(seed) for seed in SEEDS]))
    np.testing.assert_allclose(summary.truncated, np.mean([not terminates(seed) for seed in SEEDS]))
    # The bootstrap interval of a mean of 25 is near the usual one.
    half = 1.96 * returns.std(ddof=1) / math.sqrt(len(SEEDS))
    np.testing.assert_allclose(summary.return_low, returns.mean() - half, atol=half / 4)
    np.testing.assert_allclose(summary.return_high, returns.mean() + half, atol=half / 4)
    assert summarise(batch) == summary


def test_undefined_rewards_of_final_frames_do_not_count() -> None:
    batch = play(InProcess([Scripted()]), ByObservation(), SEEDS)
    reward = batch["reward"].clone()
    reward[batch.first_frames + batch.lengths] = torch.nan
    spoilt = EpisodeBatch(batch.spec, {**batch.fields, "reward": reward}, batch.lengths, batch.terminated)
    assert summarise(spoilt) == summarise(batch)
    assert episode_returns(spoilt) == episode_returns(batch)


def test_one_episode_has_no_interval() -> None:
    summary = summarise(play(InProcess([Scripted()]), ByObservation(), [4]))
    assert (summary.episodes, summary.length_mean) == (1, length_of(4))
    assert (summary.return_low, summary.return_high) == (-math.inf, math.inf)
    assert math.isfinite(summary.return_mean)


def test_returns_that_are_all_equal_have_an_interval_of_no_width() -> None:
    batch = play(InProcess([Scripted()]), ByObservation(), [4, 4, 4])
    summary = summarise(batch)
    assert summary.return_low == summary.return_high == summary.return_mean


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [
        (100, 100, 0.963, 1.0),  # 1 / (1 + 1.96 ** 2 / 100)
        (0, 100, 0.0, 0.037),
        (50, 100, 0.404, 0.596),
        (8, 10, 0.490, 0.943),
        (1, 1, 0.207, 1.0),
    ],
)
def test_wilsons_interval(wins: int, n: int, low: float, high: float) -> None:
    """Against values from tables."""
    given = share(wins, n)
    np.testing.assert_allclose(given, [wins / n, low, high], atol=5e-4)
    assert 0 <= given.low <= given.mean <= given.high <= 1


def test_outcomes_of_0_and_1_are_shares_and_others_are_means() -> None:
    batch = play(InProcess([Scripted(outcomes=True)]), ByObservation(), SEEDS)
    summary = summarise(batch)
    wins = sum(outcomes_of(seed)["win"] for seed in SEEDS)
    assert summary.outcomes["win"] == share(int(wins), len(SEEDS))
    scores = np.array([outcomes_of(seed)["score"] for seed in SEEDS])
    score = summary.outcomes["score"]
    assert score == bootstrapped(scores)
    half = 1.96 * scores.std(ddof=1) / math.sqrt(len(SEEDS))
    np.testing.assert_allclose(
        score, [scores.mean(), scores.mean() - half, scores.mean() + half], atol=half / 4
    )
    assert summarise(play(InProcess([Scripted()]), ByObservation(), SEEDS)).outcomes == {}


def test_one_episode_says_a_little_of_a_win_and_nothing_of_a_score() -> None:
    outcomes = summarise(play(InProcess([Scripted(outcomes=True)]), ByObservation(), [4])).outcomes
    assert outcomes == {"win": share(1, 1), "score": Interval(0.5, -math.inf, math.inf)}
