"""Runs from and to the JSON of marl-eval, which BenchMARL and Mava write.

    {environment: {task: {algorithm: {run: {"step_0": {"step_count": 0, "elapsed_time": 1.5, "return": [...]},
                                            ..., "absolute_metrics": {"return": [...]}}}}}}

A list holds a value an episode, or one that stands for all. Here a task is called `environment:task`, as the
ids of environments are, such as `lbforaging:Foraging-5x5-2p-1f-v3`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from endmark.experiments.comparison_groups import Cells
from endmark.experiments.scores import RunScores
from endmark.report.run_curves import GREEDY, GREEDY_RETURN
from endmark.run import is_number
from endmark.training.final import Episodes
from endmark.wording import joined, quoted, shown

LARGEST = 512 * 2**20
"""Bytes of a file."""
STEPS, SECONDS, ABSOLUTE = "step_count", "elapsed_time", "absolute_metrics"
NAMES = {
    GREEDY_RETURN: ("mean_episode_return", "return", "episode_return"),
    "greedy_win": ("win_rate", "win"),
    "greedy_length": ("mean_episode_length", "episode_length", "length"),
}
"""What others call our metrics; the first is what we write."""


def read_marl_eval(path: Path, metric: str = GREEDY_RETURN) -> list[RunScores]:
    """The runs of such a file that have the metric; ValueError, which says where, for anything else."""
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path}: given {size} bytes, want at most {LARGEST}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is no JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {joined(error)}") from None
    runs = []
    for env, tasks in _items(f"{path}", raw):
        for task, algorithms in _items(f"{path}: {env}", tasks):
            for algorithm, seeds in _items(f"{path}: {env}/{task}", algorithms):
                for seed, steps in _items(f"{path}: {env}/{task}/{algorithm}", seeds):
                    place = f"{path}: {env}/{task}/{algorithm}/{seed}"
                    label = task if env == task else f"{env}:{task}"
                    runs.append(_run(place, label, algorithm, seed, dict(_items(place, steps)), metric))
    if not runs:
        raise ValueError(f"{path} holds no run: want environment, task, algorithm, run and steps")
    return runs


def marl_eval_json(cells: Cells) -> dict[str, Any]:
    """The runs of each task and variant, with all that their evaluations measured.

    A run that has no further episodes of its best checkpoint has its best evaluation as `absolute_metrics`.
    """
    made: dict[str, Any] = {}
    for (task, variant), runs in cells.items():
        env, colon, rest = task.partition(":")
        env, rest = (env, rest) if colon and " " not in env else (task, task)
        seeds = made.setdefault(env, {}).setdefault(rest, {}).setdefault(variant, {})
        for run in runs:
            seeds[f"seed_{run.seed}"] = _steps_json(run)
    return made


def _items(place: str, raw: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place}: given {shown(raw)}, want an object")
    yield from raw.items()


def _run(
    place: str, task: str, algorithm: str, seed: str, steps: Mapping[str, Any], metric: str
) -> RunScores:
    evaluations: list[dict[str, float | None]] = []
    episodes: set[int] = set()
    for name, step in steps.items():
        if name == ABSOLUTE:
            continue
        its = dict(_items(f"{place}/{name}", step))
        count = its.pop(STEPS, None)
        if type(count) not in (int, float) or not 0 <= count < 2**63:
            raise ValueError(f"{place}/{name}/{STEPS}: given {shown(count)}, want a number of at least 0")
        seconds = its.pop(SECONDS, None)
        values = {_ours(key): _values(f"{place}/{name}/{key}", value) for key, value in its.items()}
        line = {key: float(np.mean(value)) for key, value in values.items() if value}
        times = [] if seconds is None else _values(f"{place}/{name}/{SECONDS}", seconds)
        known = {"seconds": times[0]} if times else {}
        evaluations.append({"env_steps": float(count), **known, **line})
        episodes.add(len(values.get(metric, ())))
    absolute = dict(_items(f"{place}/{ABSOLUTE}", steps.get(ABSOLUTE, {})))
    having = sorted({key for line in evaluations for key in line} - {"env_steps", "seconds"})
    if metric not in having:
        near = get_close_matches(metric, having, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(having) or 'no evaluation'}"
        raise ValueError(f"{place}: no {quoted(metric)}: {hint}")
    best = {_ours(key): _values(f"{place}/{ABSOLUTE}/{key}", its) for key, its in absolute.items()}
    kept = {key.removeprefix(GREEDY): tuple(its) for key, its in best.items() if its}
    return RunScores(
        source=place,
        task=task,
        algorithm=algorithm,
        seed=seed.removeprefix("seed_").removeprefix("run_"),
        evaluations=sorted(evaluations, key=lambda line: line["env_steps"] or 0.0),
        eval_episodes=episodes.pop() if len(episodes) == 1 and episodes != {1} else None,
        best=Episodes(0, kept) if kept else None,
    )


def _values(place: str, raw: Any) -> list[float]:
    """A list of finite numbers, or one number."""
    values = raw if isinstance(raw, list) else [raw]
    for i, value in enumerate(values):
        if not is_number(value):
            where = f"{place}[{i}]" if isinstance(raw, list) else place
            raise ValueError(f"{where}: given {shown(value)}, want a finite number")
    return [float(value) for value in values]


def _ours(name: str) -> str:
    """Our name of a metric: `greedy_return` for `return`; any other one with `greedy_` before it."""
    for ours, theirs in NAMES.items():
        if name in theirs:
            return ours
    return f"{GREEDY}{name}"


def _theirs(name: str) -> str:
    return NAMES[name][0] if name in NAMES else name.removeprefix(GREEDY)


def _steps_json(run: RunScores) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for i, line in enumerate(run.evaluations):
        its = {
            _theirs(key): [value]
            for key, value in line.items()
            if key.startswith(GREEDY) and value is not None
        }
        known = {} if line.get("seconds") is None else {SECONDS: line["seconds"]}
        steps[f"step_{i}"] = {STEPS: int(line["env_steps"] or 0), **known, **its}
    if run.best is not None:
        absolute = {_theirs(f"{GREEDY}{key}"): list(its) for key, its in run.best.values.items()}
    else:
        names = sorted({key for line in run.evaluations for key in line if key.startswith(GREEDY)})
        absolute = {_theirs(name): [run.highest(name)] for name in names}
    return {**steps, ABSOLUTE: absolute}
