"""Runs of EPyMARL, from the directories that sacred's FileStorageObserver leaves.

    results/sacred/ALGORITHM/ENV/NUMBER/config.json, metrics.json

`metrics.json` holds {name: {"steps": [...], "timestamps": [...], "values": [...]}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from endmark.experiments.scores import RunScores
from endmark.report.run_curves import GREEDY_RETURN, points_of
from endmark.run import CONFIG, RunError, is_number
from endmark.wording import joined, quoted, shown

SACRED = "metrics.json"
LARGEST = 512 * 2**20
"""Bytes of a file."""
NAMES = {
    "test_return_mean": GREEDY_RETURN,
    "test_total_return_mean": GREEDY_RETURN,
    "test_battle_won_mean": "greedy_win",
    "test_ep_length_mean": "greedy_length",
}
"""Our names of their metrics. The second is written where each agent has its own reward."""
OF_RUN = {
    "seed",
    "env",
    "env_args",
    "t_max",
    "name",
    "label",
    "hypergroup",
    "repeat_id",
    "use_cuda",
    "render",
}
OF_RUN |= {"evaluate", "load_step", "checkpoint_path", "local_results_path", "buffer_cpu_only"}
BEGINNINGS = ("test_", "log_", "runner_log", "learner_log", "save_", "use_tensorboard", "use_wandb", "wandb_")
"""Keys in which runs of one variant may differ, and beginnings of such keys."""


def read_sacred(directory: Path, metric: str = GREEDY_RETURN) -> RunScores | None:
    """The run in this directory; None if it is none of theirs. RunError if it cannot be read or compared.

    Their evaluations count as ours do. The algorithm's name has "epymarl" before it.
    """
    if not (directory / SACRED).is_file():
        return None
    config, metrics = _object(directory / CONFIG), _object(directory / SACRED)
    name, env, arguments = (config.get(key) for key in ("name", "env", "env_args"))
    if not isinstance(name, str) or not isinstance(env, str) or not isinstance(arguments, Mapping):
        raise RunError(f"{directory / CONFIG}: want name, env and env_args, as EPyMARL has them")
    if config.get("common_reward", True) and config.get("reward_scalarisation", "sum") != "sum":
        given = shown(config["reward_scalarisation"])
        raise RunError(f"{directory}: reward_scalarisation: given {given}, want 'sum', as our returns are")
    lines: dict[float, dict[str, float | None]] = {}
    start = _start(metrics)
    for theirs, series in metrics.items():
        if theirs in NAMES:
            for step, when, value in _points(f"{directory / SACRED}: {theirs}", series):
                line = lines.setdefault(step, {"env_steps": step})
                line[NAMES[theirs]] = value
                if start is not None and when is not None:
                    line["seconds"] = (when - start).total_seconds()
    evaluations = [lines[step] for step in sorted(lines)]
    if not points_of(evaluations, metric):
        raise RunError(f"{directory}: no {quoted(metric)} in {SACRED}, want one of {', '.join(NAMES)}")
    budget, episodes = config.get("t_max"), config.get("test_nepisode")
    return RunScores(
        source=str(directory),
        task=_task(env, arguments),
        algorithm=f"epymarl {name}",
        seed=str(config.get("seed", "?")),
        evaluations=evaluations,
        settings={key: value for key, value in config.items() if not _may_differ(key)},
        budget=budget if type(budget) is int else None,
        eval_episodes=episodes if type(episodes) is int else None,
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise RunError(f"{path}: given {size} bytes, want at most {LARGEST}")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise RunError(f"{path} is no JSON: nested too deeply") from None
    except RunError:
        raise
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {joined(error)}") from None
    if not isinstance(raw, dict):
        raise RunError(f"{path}: given {shown(raw)}, want an object")
    return raw


def _points(place: str, series: Any) -> list[tuple[float, datetime | None, float]]:
    """(steps, time, value) of each evaluation; those without a finite value are left out."""
    if not isinstance(series, Mapping):
        raise RunError(f"{place}: given {shown(series)}, want an object")
    columns = [series.get(key) for key in ("steps", "timestamps", "values")]
    steps, times, values = (column if isinstance(column, list) else [] for column in columns)
    if len(steps) != len(values):
        raise RunError(f"{place}: given {len(steps)} steps and {len(values)} values, want as many")
    times = times if len(times) == len(steps) else [None] * len(steps)
    points = []
    for step, when, value in zip(steps, times, values, strict=True):
        if type(step) is not int or not 0 <= step < 2**63:
            raise RunError(f"{place}: given {shown(step)} as steps, want an integer of at least 0")
        if is_number(value):
            points.append((float(step), _time(when), float(value)))
    return points


def _start(metrics: Mapping[str, Any]) -> datetime | None:
    """The earliest time in the file: training began some moments before."""
    series = [its.get("timestamps") for its in metrics.values() if isinstance(its, Mapping)]
    times = [_time(its[0]) for its in series if isinstance(its, list) and its]
    return min((time for time in times if time is not None), default=None)


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None


def _task(env: str, arguments: Mapping[str, Any]) -> str:
    """Our id where it is theirs too, as of `gymma`; otherwise `env:map`, which --rename can change."""
    key, name = arguments.get("key"), arguments.get("map_name")
    named = f"{env}:{name}" if isinstance(name, str) else env
    task = key if isinstance(key, str) else named
    limit = arguments.get("time_limit")
    return f"{task} episode_limit={limit}" if env == "gymma" and type(limit) is int else task


def _may_differ(key: str) -> bool:
    return key in OF_RUN or key.startswith(BEGINNINGS)
