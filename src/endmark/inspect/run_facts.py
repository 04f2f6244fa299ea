"""How far a run directory is: a run that has ended, one that goes on, one that was stopped or killed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from endmark.report import Curve, best_of, points_of
from endmark.run import (
    BEST,
    METRICS,
    WEIGHTS,
    Counters,
    RunError,
    counters_from,
    is_exact,
    read_checkpoint,
    read_config,
    read_metrics,
)
from endmark.training.state_file import STATE, load_state


@dataclass(frozen=True)
class RunFacts:
    """What a run directory holds.

    algorithm, env, seed, steps: of its configuration, None where that does not say.
    counters: how far its metrics, checkpoint or state are, whichever is furthest.
    evaluations: (environment steps, greedy return) at each.
    checkpoint, best, state: environment steps of these files; None if there is none yet.
    exact: False if it was resumed where that could not be done bit for bit.
    """

    directory: str
    algorithm: str | None
    env: str | None
    seed: int | None
    steps: int | None
    counters: Counters
    evaluations: Curve
    checkpoint: int | None
    best: int | None
    state: int | None
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"counters": self.counters._asdict()}


def run_facts(directory: Path) -> RunFacts:
    """What is there. RunError, one line, for a file that is damaged."""
    config = read_config(directory)
    algorithm = config.get("algorithm")
    lines = list(read_metrics(directory)) if (directory / METRICS).exists() else []
    counts = [_counters(line, directory / METRICS) for line in lines]
    checkpoint, best = (
        read_checkpoint(directory, name)[0] if (directory / name).exists() else None
        for name in (WEIGHTS, BEST)
    )
    state = load_state(directory) if (directory / STATE).exists() else None
    saved = None if state is None else _counters(state.get("counters"), directory / STATE)
    return RunFacts(
        str(directory),
        algorithm=_of(str, algorithm.get("name") if isinstance(algorithm, dict) else None),
        env=_of(str, config.get("env")),
        seed=_of(int, config.get("seed")),
        steps=_of(int, config.get("steps")),
        counters=max([Counters(), *counts, *(c for c in (checkpoint, saved) if c is not None)]),
        evaluations=points_of(lines, "greedy_return"),
        checkpoint=None if checkpoint is None else checkpoint.env_steps,
        best=None if best is None else best.env_steps,
        state=None if saved is None else saved.env_steps,
        exact=is_exact(directory),
    )


def facts_table(facts: RunFacts) -> Table:
    """The facts as a table without borders, one a row."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "run": facts.directory,
        "training": f"{facts.algorithm or '?'} on {facts.env or '?'}, seed {_or_unknown(facts.seed)}",
        "progress": _progress(facts),
        "evaluations": _evaluations(facts.evaluations),
        "checkpoint": "none yet; the first evaluation writes it"
        if facts.checkpoint is None
        else f"of {facts.checkpoint:,} steps{_best(facts.best)}; `endmark eval` plays it",
        "state": "none yet; --save-every says how often, and the end of a run saves one"
        if facts.state is None
        else f"of {facts.state:,} steps; `endmark resume` goes on from there",
    }
    if not facts.exact:
        rows["exact"] = "no: it was resumed, and its running episodes could not be played again"
    for name, words in rows.items():
        table.add_row(name, Text(words))
    return table


def _progress(facts: RunFacts) -> str:
    done = facts.counters
    asked = f" of {facts.steps:,}" if facts.steps is not None else ""
    ended = facts.steps is not None and done.env_steps >= facts.steps
    return (
        f"{done.env_steps:,}{asked} steps, {done.episodes:,} episodes, {done.updates:,} updates; "
        f"{'at its end' if ended else 'not at its end'}"
    )


def _evaluations(curve: Curve) -> str:
    if not curve:
        return "none yet"
    (last_steps, last), (best_steps, best) = curve[-1], best_of(curve)
    return (
        f"{len(curve)}; greedy return: last {last:.4g} at {last_steps:,.0f} steps, "
        f"best {best:.4g} at {best_steps:,.0f}"
    )


def _best(steps: int | None) -> str:
    return "" if steps is None else f", and the best of {steps:,} (--checkpoint best)"


def _counters(given: Any, path: Path) -> Counters:
    """The counters among these entries; RunError if they are not there."""
    try:
        return counters_from({name: given.get(name) for name in Counters._fields})
    except (AttributeError, ValueError):
        raise RunError(f"{path} is damaged: no counts of {', '.join(Counters._fields)}") from None


def _of(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else None


def _or_unknown(value: int | None) -> str:
    return "?" if value is None else str(value)
