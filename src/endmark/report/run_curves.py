"""The curves of run directories, from their configurations and metrics alone, so at any time of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from endmark.report.curve import Curve
from endmark.run import METRICS, RunError, read_config, read_metrics

GREEDY, GREEDY_RETURN = "greedy_", "greedy_return"
OF_EVERY_RUN = {GREEDY_RETURN, "greedy_length", "greedy_terminated"}
SAME_CURVE = {"device", "final_episodes", "log_every", "save_every"}
SAME_CURVE |= {"steps", "store_replay", "threads", "worker_timeout"}
"""Options in which runs may differ and still be one group of seeds: they change no point of a curve."""


@dataclass(frozen=True)
class RunCurve:
    """One run: its options, those of its algorithm among them, and its curve so far.

    outcomes: the curve of each outcome of the evaluations, such as `win`.
    """

    directory: Path
    options: Mapping[str, Any]
    curve: Curve
    outcomes: Mapping[str, Curve] = field(default_factory=dict)


def read_run(directory: Path, metric: str = GREEDY_RETURN) -> RunCurve:
    """The run in this directory; RunError, one line, if it is none or damaged, or has other metrics only."""
    config = read_config(directory)
    algorithm = config.pop("algorithm", None)
    settings = dict(algorithm) if isinstance(algorithm, dict) else {}
    options = {"algorithm": settings.pop("name", "?"), "env": "?", **config, **settings}
    lines = list(read_metrics(directory)) if (directory / METRICS).exists() else []
    curve = points_of(lines, metric)
    if not curve and metric != GREEDY_RETURN and lines:
        names = sorted({name for line in lines for name in line})
        near = get_close_matches(metric, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise RunError(f"{directory / METRICS} has no '{metric}': {hint}")
    return RunCurve(directory, options, curve, _outcomes_of(lines))


def points_of(lines: Iterable[Mapping[str, Any]], metric: str) -> Curve:
    """(environment steps, metric) of each line that has both as finite numbers."""
    pairs = [(_number(line.get("env_steps")), _number(line.get(metric))) for line in lines]
    return [(steps, value) for steps, value in pairs if steps is not None and value is not None]


def _outcomes_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """The curves of what evaluations measured beside return, length and ends."""
    names = dict.fromkeys(name for line in lines for name in line if name.startswith(GREEDY))
    curves = {name.removeprefix(GREEDY): points_of(lines, name) for name in names if name not in OF_EVERY_RUN}
    return {name: curve for name, curve in curves.items() if curve}


def best_of(curve: Curve) -> tuple[float, float]:
    """The highest point of at least one, the last of several: where the best checkpoint is."""
    return max(curve, key=lambda point: (point[1], point[0]))


def grouped(runs: Sequence[RunCurve]) -> dict[str, list[RunCurve]]:
    """Runs that differ in their seed alone, under labels that tell each group from the others.

    A label says what differs: the algorithm, the environment, options of the same algorithm, or else the
    directory. One group alone has the algorithm's name.
    """
    groups: list[list[RunCurve]] = []
    for run in runs:
        home = next((group for group in groups if _one_more_seed(group, run)), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    labels = [_label(group[0], [other[0] for other in groups]) for group in groups]
    return {
        label if label and labels.count(label) == 1 else f"{label} {group[0].directory}".strip(): group
        for label, group in zip(labels, groups, strict=True)
    }


def _one_more_seed(group: Sequence[RunCurve], run: RunCurve) -> bool:
    alike = _aside(group[0].options, "seed") == _aside(run.options, "seed")
    return alike and all(other.options.get("seed") != run.options.get("seed") for other in group)


def _label(run: RunCurve, all_runs: Sequence[RunCurve]) -> str:
    words = []
    for name in ("algorithm", "env"):
        values = {str(other.options[name]) for other in all_runs}
        if len(values) > 1 or (name == "algorithm" and len(all_runs) == 1):
            words.append(str(run.options[name]))
    same = run.options["algorithm"], run.options["env"]
    alike = [other for other in all_runs if (other.options["algorithm"], other.options["env"]) == same]
    for name, value in _aside(run.options, "seed").items():
        if any(other.options.get(name) != value for other in alike):
            words.append(f"{name}={_short(value)}")
    return " ".join(words)


def _aside(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in SAME_CURVE and name not in names}


def _short(value: Any) -> str:
    """A setting in few characters: 0.0005 as it is, a list by its items."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None
