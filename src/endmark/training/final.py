"""The evaluation at the end of a run, on episodes that training never used, and what it leaves behind.

`final.json` holds the return, the length and each outcome of every episode, of three policies: `greedy`, the
last weights; `best`, those of the best evaluation while training, whose mean return here is the absolute
metric of Gorsane et al. (2022, arXiv:2209.10485); and `random`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from endmark.algorithms import Learner
from endmark.disk import replacing
from endmark.episodes import EpisodeBatch
from endmark.rollout import Summary, episode_returns, summarise
from endmark.run import BEST, WEIGHTS, RunError, is_number, read_checkpoint
from endmark.training.config import TrainConfig
from endmark.training.evaluation import play_unseen, random_policy
from endmark.wording import joined, shown

FINAL = "final.json"
LARGEST = 64 * 2**20
"""Bytes of such a file; a million episodes fit."""


@dataclass(frozen=True)
class Episodes:
    """One policy's episodes: for `return`, `length` and each outcome a value an episode.

    env_steps: how far the run was with these weights; 0 for random play.
    """

    env_steps: int
    values: Mapping[str, tuple[float, ...]]

    def mean(self, metric: str) -> float | None:
        """The mean of what metrics call `greedy_return` and the like; None if it was not kept."""
        values = self.values.get(metric.removeprefix("greedy_"))
        return float(np.mean(values)) if values else None


def final_evaluation(config: TrainConfig[Any], directory: Path, learner: Learner) -> dict[str, Summary]:
    """Play `final_episodes` episodes of the last weights, the best ones and random play; keep them.

    The learner has its last weights again when this returns. Where the last evaluation was the best, its
    weights are the last ones, and are not played twice.
    """

    def greedy() -> EpisodeBatch:
        return play_unseen(config, learner.greedy_policy(config.n_envs), config.final_episodes)

    steps, last = read_checkpoint(directory, WEIGHTS)
    played = {"greedy": (steps.env_steps, greedy())}
    played["best"] = played["greedy"]
    if (directory / BEST).exists():
        counters, best = read_checkpoint(directory, BEST)
        if counters != steps:
            learner.networks.load_state_dict(best)
            played["best"] = counters.env_steps, greedy()
            learner.networks.load_state_dict(last)
    random = random_policy(learner.spec.bounds)
    played["random"] = 0, play_unseen(config, random, config.final_episodes)
    kept = {name: {"env_steps": at, **_values(batch)} for name, (at, batch) in played.items()}
    with replacing(directory / FINAL) as path:
        path.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    return {name: summarise(batch) for name, (_, batch) in played.items()}


def read_final(directory: Path) -> dict[str, Episodes]:
    """What `final_evaluation` kept; RunError, one line, if it cannot be read."""
    path = directory / FINAL
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ValueError(f"given {size} bytes, want at most {LARGEST}")
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {name: _episodes(f"{name}: ", raw[name]) for name in ("greedy", "best", "random")}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {joined(error)}") from None


def _values(batch: EpisodeBatch) -> dict[str, list[float]]:
    outcomes = {name: batch.outcome(name).double().tolist() for name in batch.spec.outcomes}
    return {"return": episode_returns(batch), "length": batch.lengths.double().tolist(), **outcomes}


def _episodes(where: str, raw: Any) -> Episodes:
    if not isinstance(raw, Mapping) or type(steps := raw.get("env_steps")) is not int:
        raise ValueError(f"{where}given {shown(raw)}, want an object with env_steps")
    values = {name: its for name, its in raw.items() if name != "env_steps"}
    for name, its in values.items():
        good = isinstance(its, list) and all(map(is_number, its))
        if not good:
            raise ValueError(f"{where}{shown(name)}: given {shown(its)}, want a list of finite numbers")
    return Episodes(steps, {name: tuple(map(float, its)) for name, its in values.items()})
