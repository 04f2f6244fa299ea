"""From run directories to the evaluations of runs, from their files alone, so at any time of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from endmark.report.curve import Curve
from endmark.report.run_curves import GREEDY, GREEDY_RETURN, best_of, points_of
from endmark.run import CONFIG, METRICS, RunError, is_exact, read_config, read_metrics
from endmark.training.final import FINAL, Episodes, read_final
from endmark.wording import quoted

OF_TASK = ("env", "env_arg", "episode_limit", "partners", "learners", "learner_agents", "together")
"""Options that say what is played, and with whom."""
OF_RUN = {"seed", "device", "final_episodes", "log_every", "save_every", "steps", "store_replay", "threads"}
OF_RUN |= {"worker_timeout", "eval_every", "eval_episodes", "log_to", "ray_address"}
"""Options in which runs of one variant may differ."""


@dataclass(frozen=True)
class RunScores:
    """What is compared of one run.

    source: its directory, or the file that it comes from and the place in it.
    made_by: a command that makes it again; empty where there is none.
    task: the environment with what else says what is played.
    settings: of the algorithm and of the run, in which variants may differ.
    budget: environment steps that were asked for; None if that is not known.
    evaluations: by increasing `env_steps`: that, `seconds`, and the means of each evaluation.
    eval_episodes: of each evaluation; None if that is not known.
    best, random: episodes of the best checkpoint and of random play, where the run has played them.
    """

    source: str
    task: str
    algorithm: str
    seed: str
    evaluations: Sequence[Mapping[str, float | None]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = None
    eval_episodes: int | None = None
    best: Episodes | None = None
    random: Episodes | None = None
    exact: bool = True
    made_by: str = ""

    def curve(self, metric: str) -> Curve:
        """(environment steps, metric) of each evaluation that has it."""
        return points_of(self.evaluations, metric)

    def final(self, metric: str) -> float:
        """The metric of the last evaluation."""
        return self.curve(metric)[-1][1]

    def highest(self, metric: str) -> float:
        """The metric of the highest evaluation. A maximum is too high on average: see `absolute`."""
        return best_of(self.curve(metric))[1]

    def absolute(self, metric: str) -> float | None:
        """The mean over further episodes of the best checkpoint; None where they were not played."""
        return None if self.best is None else self.best.mean(metric)

    def seconds(self) -> float | None:
        """Wall clock until the last evaluation; None if it is not known."""
        known = [line["seconds"] for line in self.evaluations if line.get("seconds") is not None]
        return known[-1] if known else None

    @property
    def last_step(self) -> float:
        """Environment steps at the last evaluation."""
        return self.evaluations[-1]["env_steps"] or 0.0

    @property
    def is_finished(self) -> bool:
        """Whether it is evaluated at the steps that it was asked for, or beyond."""
        return self.budget is None or self.last_step >= self.budget


class Found(NamedTuple):
    """Runs, and a line on each that is left out."""

    runs: list[RunScores]
    left_out: list[str]


def run_directories(folder: Path) -> Iterator[Path]:
    """This folder, if it is a run directory, and otherwise those below it, in the order of their paths.

    A directory with one of the two files that a run needs counts as one, for it may be half written.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such directory, want a run directory or a folder of them")
    for path, folders, files in os.walk(folder):
        folders.sort()
        if {CONFIG, METRICS} & set(files):
            folders.clear()
            yield Path(path)


def read_runs(
    folders: Sequence[Path],
    metric: str = GREEDY_RETURN,
    foreign: Callable[[Path, str], RunScores | None] = lambda *_: None,
) -> Found:
    """The runs in and below these folders that have the metric; ValueError for a folder without any run.

    foreign: reads a directory of another program; None if it is none of that program's.
    """
    found = Found([], [])
    seen: set[Path] = set()
    for folder in folders:
        directories = list(run_directories(folder))
        if not directories:
            raise ValueError(f"{folder} holds no run: want directories with {CONFIG} and {METRICS}")
        for directory in directories:
            if directory.resolve() in seen:
                continue
            seen.add(directory.resolve())
            try:
                found.runs.append(foreign(directory, metric) or _read_run(directory, metric))
            except (RunError, OSError) as error:
                found.left_out.append(" ".join(str(error).split()))
    return found


def _read_run(directory: Path, metric: str) -> RunScores:
    config = read_config(directory)
    algorithm = config.pop("algorithm", None)
    own = dict(algorithm) if isinstance(algorithm, dict) else {}
    name, env = own.pop("name", None), config.get("env")
    if not isinstance(name, str) or not isinstance(env, str):
        raise RunError(f"{directory / CONFIG}: want the name of an algorithm and of an environment")
    every = [line for line in read_metrics(directory) if any(key.startswith(GREEDY) for key in line)]
    if not points_of(every, metric):
        raise RunError(f"{directory}: {_missing(metric, every)}")
    episodes = read_final(directory) if (directory / FINAL).exists() else {}
    settings = {key: value for key, value in config.items() if key not in OF_RUN and key not in OF_TASK}
    return RunScores(
        source=str(directory),
        task=_task(config),
        algorithm=name,
        seed=str(config.get("seed", "?")),
        evaluations=[_as_floats(line) for line in every if line.get("env_steps") is not None],
        settings=settings | own,
        budget=_whole(config.get("steps")),
        eval_episodes=_whole(config.get("eval_episodes")),
        best=episodes.get("best"),
        random=episodes.get("random"),
        exact=is_exact(directory),
        made_by=f"endmark train --like {directory}",
    )


def _missing(metric: str, evaluations: Sequence[Mapping[str, Any]]) -> str:
    names = sorted({name for line in evaluations for name in line if name.startswith(GREEDY)})
    if not names or metric in names:
        return f"no {metric} yet"
    near = get_close_matches(metric, names, n=1)
    return f"no {quoted(metric)}: " + (f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}")


def _task(config: Mapping[str, Any]) -> str:
    """The environment's id, its arguments, and what else says what is played, each as `key=value`."""
    arguments = config.get("env_arg") or []
    words = [str(config["env"]), *sorted(map(str, arguments))]
    words += [
        f"{name}={_short(value)}"
        for name in OF_TASK[2:]
        if (value := config.get(name)) not in (None, [], ())
        and (name != "learners" or config.get("partners"))
    ]
    return " ".join(words)


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _as_floats(line: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in line.items()}


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
