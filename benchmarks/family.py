"""The tables of docs/results.md from the runs of `make family`, beside published values.

    python -m benchmarks.family runs/family

Published are the maximum returns of Papoudakis et al. (2021), arXiv:2006.07869, table 3, with shared
parameters: of all evaluations while training, the highest mean over five seeds. Ours beside them are so too,
in their units.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from endmark.algorithms import ALGORITHMS
from endmark.experiments.scores import RunScores, read_runs
from endmark.report.run_curves import GREEDY_RETURN
from endmark.training.final import FINAL, Episodes, read_final


class Task(NamedTuple):
    """unit: of a published return. theirs: what a return of ours is in that unit."""

    unit: str
    theirs: Callable[[float], float]


TASKS = {
    "matrix:climbing": Task("of 25 plays", lambda play: 25 * play),
    "lbforaging:Foraging-8x8-2p-2f-coop-v3": Task("of the team, at most 1", lambda team: team),
    # There each agent gets, summed over all three, minus the distances and minus its collisions, of which one
    # with itself at every step. Here it gets half of both, and nothing for itself; the return is the team's.
    "mpe2.simple_spread_v3": Task("of an agent", lambda team: 2 * team - 75),
}
PUBLISHED = {
    "iql": ((195.00, 67.82), (1.00, 0.00), (-132.63, 2.22)),
    "ia2c": ((175.00, 0.00), (1.00, 0.00), (-134.43, 1.15)),
    "ippo": ((175.00, 0.00), (1.00, 0.00), (-133.86, 3.67)),
    "maddpg": ((170.00, 10.00), (0.46, 0.02), (-141.70, 1.74)),
    "coma": ((185.00, 48.99), (0.61, 0.30), (-204.31, 6.30)),
    "maa2c": ((175.00, 0.00), (1.00, 0.00), (-129.90, 1.63)),
    "mappo": ((175.00, 0.00), (1.00, 0.00), (-133.54, 3.08)),
    "vdn": ((175.00, 54.77), (1.00, 0.00), (-131.03, 1.85)),
    "qmix": ((175.00, 54.77), (0.96, 0.07), (-126.62, 2.96)),
}
"""For each of `TASKS`: the mean, and half of the 95 % interval."""

Runs = Mapping[str, Sequence[RunScores]]
"""From an algorithm to its runs on one task."""


def highest_mean(runs: Sequence[RunScores]) -> float:
    """The highest mean over seeds of an evaluation that all of them have."""
    curves = [[value for _, value in run.curve(GREEDY_RETURN)] for run in runs]
    return max(map(statistics.fmean, zip(*curves, strict=False)))


def last(run: RunScores) -> Episodes | None:
    """The episodes of the last weights; None if the run is not complete."""
    directory = Path(run.source)
    return read_final(directory)["greedy"] if (directory / FINAL).exists() else None


def returns(tasks: Mapping[str, Runs]) -> list[str]:
    """A row an algorithm, a column a task: the mean return of each seed's last weights."""
    lines = [f"| | {' | '.join(f'`{task}`' for task in tasks)} |", "|---|" + "---:|" * len(tasks)]
    for name in [name for name in ALGORITHMS if any(name in runs for runs in tasks.values())]:
        cells = [_means(map(last, runs.get(name, ()))) for runs in tasks.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    # Of one run: who plays at random has learned nothing.
    random = [_means([next(iter(runs.values()))[0].random]) for runs in tasks.values()]
    return [*lines, f"| random | {' | '.join(random)} |"]


def _means(played: Iterable[Episodes | None]) -> str:
    means = [episodes.mean("return") for episodes in played if episodes]
    return ", ".join(f"{mean:.3g}" for mean in means if mean is not None)


def beside_published(tasks: Mapping[str, Runs]) -> list[str]:
    """A row an algorithm: for each task that both have, ours and theirs, in their units."""
    both = {task: i for i, task in enumerate(TASKS) if task in tasks}
    heads = [f"`{task}`, {TASKS[task].unit} | published" for task in both]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|---:|" * len(both)]
    for name, values in PUBLISHED.items():
        cells = []
        for task, i in both.items():
            mean, half = values[i]
            runs = tasks[task].get(name, ())
            cells += [f"{TASKS[task].theirs(highest_mean(runs)):.2f}" if runs else ""]
            cells += [f"{mean:.2f} ± {half:.2f}"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def tasks_of(folders: Sequence[Path]) -> dict[str, dict[str, list[RunScores]]]:
    """The runs in these folders by task, without its arguments, and by algorithm, with increasing seeds."""
    found: dict[str, dict[str, list[RunScores]]] = {}
    for run in sorted(read_runs(folders).runs, key=lambda run: int(run.seed)):
        found.setdefault(run.task.split()[0], {}).setdefault(run.algorithm, []).append(run)
    return found


def main() -> None:
    """Print both tables, and how long the runs took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs/family")])
    tasks = tasks_of(parser.parse_args().folders)
    print(*returns(tasks), "", *beside_published(tasks), "", sep="\n")
    for task, runs in tasks.items():
        seconds = [run.seconds() or 0.0 for group in runs.values() for run in group]
        print(f"{task}: {len(seconds)} runs, {sum(seconds) / 60:.0f} minutes of one core")


if __name__ == "__main__":
    main()
