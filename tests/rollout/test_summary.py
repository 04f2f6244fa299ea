"""Summaries against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from endmark.episodes import EpisodeBatch
from endmark.rollout import InProcess, episode_returns, play, summarise
from support.scripted import ByObservation, Scripted, length_of, logs_by_seed, terminates

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
