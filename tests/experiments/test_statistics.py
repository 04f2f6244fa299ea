"""Figures over runs and tasks: those of rliable, those of naive loops, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.coverage import coverage

from endmark.experiments.statistics import (
    Array,
    Strata,
    estimate,
    interval,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    profile,
    resampled,
    tail_of,
)
from endmark.experiments.statistics import _t_quantile as t_quantile

# Ten runs on three tasks. The figures below are those of rliable 1.2.0 on these arrays: aggregate_iqm,
# aggregate_mean, aggregate_median, aggregate_optimality_gap, probability_of_improvement, score_distributions.
R = np.arange(30)
X = (R * 7 % 31 / 30).reshape(10, 3)
Y = ((R * R * 11 + R) % 29 / 28 + 0.1).reshape(10, 3)
FIGURES = [iqm, mean, median, optimality_gap]


def strata(scores: Array) -> list[Array]:
    return list(scores.T)


def test_figures_are_those_of_rliable() -> None:
    of_x = [0.4833333333333333, 0.49, 0.5166666666666667, 0.51]
    of_y = [0.5464285714285714, 0.5488095238095237, 0.5428571428571428, 0.45333333333333337]
    assert [float(figure(strata(X))) for figure in FIGURES] == pytest.approx(of_x, abs=1e-12)
    assert [float(figure(strata(Y))) for figure in FIGURES] == pytest.approx(of_y, abs=1e-12)
    assert float(probability_of_improvement(strata(X), strata(Y))) == pytest.approx(0.43, abs=1e-12)
    assert float(probability_of_improvement(strata(Y), strata(X))) == pytest.approx(0.57, abs=1e-12)
    at = np.array([0.0, 0.25, 0.5, 0.75])
    shares = [0.9666666666666667, 0.7333333333333333, 0.4666666666666667, 0.23333333333333334]
    assert profile(strata(X), at).tolist() == pytest.approx(shares, abs=1e-12)


def test_percentiles_of_the_bootstrap_are_those_of_rliable() -> None:
    # get_interval_estimates, 20,000 repetitions for the four figures of X and 4000 for the probability that X
    # improves on Y, after np.random.seed(0).
    low, high = [0.35, 0.39, 0.37, 0.40667], [0.62708, 0.59333, 0.63667, 0.61]
    rng = np.random.default_rng(1)
    drawn = resampled(strata(X), 20_000, rng)
    for figure, its_low, its_high in zip(FIGURES, low, high, strict=True):
        assert np.quantile(figure(drawn), [0.025, 0.975]) == pytest.approx([its_low, its_high], abs=0.007)
    pairs = probability_of_improvement(resampled(strata(X), 4000, rng), resampled(strata(Y), 4000, rng))
    assert np.quantile(pairs, [0.025, 0.975]) == pytest.approx([0.28333, 0.58], abs=0.012)


def ragged(seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 9, rng.integers(1, 9)) / 8 + 0.2 for _ in range(rng.integers(1, 5))]


def naive_iqm(scores: Strata) -> float:
    every = sorted(float(x) for its in scores for x in its)
    kept = every[int(len(every) * 0.25) : len(every) - int(len(every) * 0.25)]
    return sum(kept) / len(kept)


def naive_mean(scores: Strata) -> float:
    return sum(sum(map(float, its)) / len(its) for its in scores) / len(scores)


def naive_median(scores: Strata) -> float:
    means = sorted(sum(map(float, its)) / len(its) for its in scores)
    half = len(means) // 2
    return means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2


def naive_gap(scores: Strata) -> float:
    return sum(sum(1 - min(float(x), 1.0) for x in its) / len(its) for its in scores) / len(scores)


def naive_improvement(first: Strata, second: Strata) -> float:
    shares = []
    for a, b in zip(first, second, strict=True):
        wins = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b)
        shares.append(wins / (len(a) * len(b)))
    return sum(shares) / len(shares)


NAIVE = [naive_iqm, naive_mean, naive_median, naive_gap]


@pytest.mark.parametrize("seed", range(20))
def test_the_bootstrap_agrees_with_a_loop_on_ragged_runs(seed: int) -> None:
    scores = ragged(seed)
    tail = tail_of(scores)
    for figure, naive in zip(FIGURES, NAIVE, strict=True):
        found = estimate(figure, scores, samples=60, seed=seed)
        assert found.value == pytest.approx(naive(scores), abs=1e-12)
        if tail is None:
            assert (found.low, found.high) == (-math.inf, math.inf)
            continue
        rng = np.random.default_rng(seed)
        runs = [rng.integers(len(its), size=(60, len(its))) for its in scores]
        pairs = list(zip(scores, runs, strict=True))
        drawn = [[np.array([its[r] for r in sample_of[i]]) for its, sample_of in pairs] for i in range(60)]
        values = [naive(sample) for sample in drawn]
        low, high = np.quantile(values, [tail, 1 - tail])
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_probability_of_improvement_agrees_with_a_loop(seed: int) -> None:
    first = ragged(seed)
    rng = np.random.default_rng(100 + seed)
    second = [rng.integers(0, 9, rng.integers(1, 9)) / 8 + 0.2 for _ in first]
    found = float(probability_of_improvement(first, second))
    assert found == pytest.approx(naive_improvement(first, second), abs=1e-12)
    assert float(probability_of_improvement(second, first)) == pytest.approx(1 - found, abs=1e-12)
    assert float(probability_of_improvement(first, first)) == 0.5


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    scores = strata(X)
    assert interval(iqm, scores) == interval(iqm, scores)
    assert interval(mean, scores) != interval(mean, scores, seed=1)


def test_a_shift_of_all_scores_shifts_figure_and_interval() -> None:
    plain, shifted = estimate(iqm, strata(X)), estimate(iqm, strata(X + 3))
    assert tuple(shifted) == pytest.approx([value + 3 for value in plain], abs=1e-12)


@pytest.mark.parametrize(
    ("free", "t"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (120, 1.97993)]
)
def test_students_t(free: int, t: float) -> None:
    assert t_quantile(free) == pytest.approx(t, rel=1e-4)


def test_percentiles_are_expanded_less_the_more_runs_there_are() -> None:
    tails = [tail_of([np.zeros(n)] * 3) for n in (1, 2, 3, 5, 10, 1000)]
    assert tails[0] is None
    known = [tail for tail in tails if tail is not None]
    assert known == sorted(known)
    assert 0 < known[0] < 0.001
    assert known[-1] == pytest.approx(0.025, abs=2e-4)
    # Five runs of one task: normal quantile of -t(4) * sqrt(5 / 4).
    five = tail_of([np.zeros(5)])
    assert five == pytest.approx(0.5 * math.erfc(2.77645 * math.sqrt(5 / 4) / math.sqrt(2)), rel=1e-3)


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_intervals_of_ten_seeds_hold_the_true_iqm(n_tasks: int) -> None:
    # `python -m benchmarks.coverage` makes 2000 comparisons. The standard error of 500 is 0.01.
    plain, expanded = coverage(iqm, n_tasks, 10, comparisons=500, samples=1000, seed=3)
    assert 0.93 <= expanded <= 0.985
    assert plain < expanded
