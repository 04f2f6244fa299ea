"""What a reader of a comparison should know beside its numbers, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from endmark.experiments.comparison import Comparison
from endmark.experiments.scores import RunScores

FEW = 5
"""Seeds; with fewer, intervals are too narrow. `docs/decisions/0025-statistics.md` has the measurements."""
UNFINISHED = "not finished, and areas end where the shortest run does"
NAMED = 4
"""Of several things alike, so many are named, and the others counted."""


def warnings_of(comparison: Comparison) -> list[str]:
    """The sentences, each about one thing; none where all is well."""
    return [
        *_few_seeds(comparison),
        *_missing_cells(comparison),
        *_missing_seeds(comparison),
        *_unequal(comparison, "budgets of environment steps differ", _steps),
        *_unequal(comparison, "evaluations are of different numbers of episodes", _episodes),
        *_runs(comparison, UNFINISHED, lambda run: not run.is_finished),
        *_runs(comparison, "resumed inexactly, so not what it is without a stop", lambda run: not run.exact),
        *_flat(comparison),
    ]


def _few_seeds(comparison: Comparison) -> Iterator[str]:
    few = [
        f"{variant} on {task} ({len(cell.runs)})"
        for (task, variant), cell in comparison.cells.items()
        if len(cell.runs) < FEW
    ]
    if few:
        yield (
            f"fewer than {FEW} seeds: {_named(few)}. Intervals of so few runs are too narrow: on one task, "
            f"those of 3 seeds hold the true figure in about 3 of 4 comparisons. Ten seeds are enough for "
            f"the IQM"
        )


def _missing_cells(comparison: Comparison) -> Iterator[str]:
    missing = [
        f"{variant} on {task}"
        for task in comparison.tasks
        for variant in comparison.variants
        if (task, variant) not in comparison.cells
    ]
    if missing:
        yield f"no runs: {_named(missing)}. Figures over tasks leave such a task out, for all variants"


def _missing_seeds(comparison: Comparison) -> Iterator[str]:
    missing = []
    for task in comparison.tasks:
        cells = {v: comparison.cells[task, v] for v in comparison.variants if (task, v) in comparison.cells}
        every = {run.seed for cell in cells.values() for run in cell.runs}
        for variant, cell in cells.items():
            lacking = sorted(every - {run.seed for run in cell.runs}, key=lambda seed: (len(seed), seed))
            if lacking:
                missing.append(f"{variant} on {task} (seed {', '.join(lacking)})")
    if missing:
        yield f"seeds that other variants have are missing: {_named(missing)}"


def _unequal(comparison: Comparison, what: str, value_of: Callable[[RunScores], int | None]) -> Iterator[str]:
    for task in comparison.tasks:
        having: dict[int, list[str]] = {}
        for (its_task, variant), cell in comparison.cells.items():
            for run in cell.runs if its_task == task else ():
                if (value := value_of(run)) is not None and variant not in having.setdefault(value, []):
                    having[value].append(variant)
        if len(having) > 1:
            which = [f"{value:,} ({', '.join(variants)})" for value, variants in sorted(having.items())]
            yield f"on {task}, {what}: {'; '.join(which)}"


def _steps(run: RunScores) -> int | None:
    return int(run.last_step) if run.budget is None else run.budget


def _episodes(run: RunScores) -> int | None:
    return run.eval_episodes


def _runs(comparison: Comparison, what: str, is_one: Callable[[RunScores], bool]) -> Iterator[str]:
    found = [run.source for cell in comparison.cells.values() for run in cell.runs if is_one(run)]
    if found:
        yield f"{what}: {_named(found)}"


def _flat(comparison: Comparison) -> Iterator[str]:
    for task in comparison.tasks:
        low, high = comparison.bounds[task][:2]
        if not high > low:
            yield (
                f"on {task}, all evaluations are {low:g}, so scores cannot be normalised: figures over tasks "
                f"leave it out; --bounds would give it a scale"
            )


def _named(things: Sequence[str]) -> str:
    more = f" and {len(things) - NAMED} more" if len(things) > NAMED else ""
    return f"{', '.join(things[:NAMED])}{more}"
