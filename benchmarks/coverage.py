"""How often 95 % intervals of `endmark compare` hold the true figure, by drawing runs whose truth is known.

    python -m benchmarks.coverage

A run's score is what evaluations give: a share of 32 episodes, drawn from a Beta distribution about the mean
of the task (0.7 on one task; evenly from 0.25 to 0.85 on several). One run in ten fails: its score is about
0.1. The truth is the figure of 400,000 runs a task. Each cell is of 2000 comparisons: how often the plain
percentile interval held it, and the one that is used, at expanded percentiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from endmark.experiments import statistics
from endmark.experiments.statistics import Array, Figure, resampled, tail_of

FIGURES: dict[str, Figure] = {
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "optimality gap": statistics.optimality_gap,
}
TASKS, SEEDS = (1, 3, 5), (3, 5, 10, 20)
TRUTH = 400_000


def drawn(rng: np.random.Generator, n_tasks: int, n_runs: int) -> list[Array]:
    """Scores of so many runs on each task."""
    means = np.linspace(0.25, 0.85, n_tasks) if n_tasks > 1 else np.array([0.7])
    scores = []
    for mean in means:
        sound, failed = rng.beta(8 * mean, 8 * (1 - mean), n_runs), rng.beta(1, 9, n_runs)
        scores.append(np.rint(np.where(rng.random(n_runs) < 0.1, failed, sound) * 32) / 32)
    return scores


def coverage(
    figure: Figure, n_tasks: int, n_runs: int, *, comparisons: int, samples: int, seed: int
) -> tuple[float, float]:
    """The share of comparisons whose interval holds the truth: plain percentiles, and expanded ones."""
    rng = np.random.default_rng(seed)
    truth = float(figure(drawn(rng, n_tasks, TRUTH)))
    held = np.zeros(2)
    for _ in range(comparisons):
        scores = drawn(rng, n_tasks, n_runs)
        values = figure(resampled(scores, samples, rng))
        for i, tail in enumerate((0.025, tail_of(scores) or 0.0)):
            low, high = np.quantile(values, [tail, 1 - tail])
            held[i] += low <= truth <= high
    plain, expanded = held / comparisons
    return float(plain), float(expanded)


def main(args: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=statistics.SAMPLES)
    options = parser.parse_args(args)
    print("| figure | tasks | " + " | ".join(f"{n} seeds" for n in SEEDS) + " |")
    print("|---|---|" + "---|" * len(SEEDS))
    for name, figure in FIGURES.items():
        for n_tasks in TASKS:
            cells = []
            for n_runs in SEEDS:
                plain, expanded = coverage(
                    figure, n_tasks, n_runs, comparisons=options.comparisons, samples=options.samples, seed=0
                )
                cells.append(f"{plain:.1%} / {expanded:.1%}")
            print(f"| {name} | {n_tasks} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
