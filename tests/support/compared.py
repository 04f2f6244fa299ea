"""Run directories that hold what a comparison reads of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endmark.experiments.comparison import Comparison, Settings, compare
from endmark.experiments.comparison_groups import in_cells
from endmark.experiments.scores import read_runs


def make_run(
    directory: Path,
    points: Sequence[float | None],
    *,
    algorithm: str = "qmix",
    env: str = "some:Env-v1",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    best: Sequence[float] | None = None,
    random: Sequence[float] | None = None,
    exact: bool = True,
    every: int = 1000,
    more: Mapping[str, Sequence[float]] | None = None,
    **options: Any,
) -> Path:
    """A run with an evaluation every so many steps, of `greedy_return` and `more`, and lines of training."""
    config = {
        "algorithm": {"name": algorithm, "lr": 0.001, **(settings or {})},
        "env": env,
        "env_arg": [],
        "seed": seed,
        "steps": every * len(points),
        "eval_episodes": 32,
        "made_with": {"exact": exact},
        **options,
    }
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    lines: list[dict[str, float | None]] = []
    for i, point in enumerate(points, 1):
        at = {"env_steps": every * i, "seconds": 2.5 * i}
        measured = {name: values[i - 1] for name, values in (more or {}).items()}
        lines += [{**at, "loss": 1 / i}, {**at, "greedy_return": point, **measured}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if best is not None:
        one = {"env_steps": every, "return": list(best), "length": [1.0] * len(best)}
        other = {"env_steps": 0, "return": list(random or best), "length": [1.0] * len(random or best)}
        final = {"greedy": one, "best": one, "random": other}
        (directory / "final.json").write_text(json.dumps(final))
    return directory


def make_grid(folder: Path, n_seeds: int = 3) -> Path:
    """Runs of three variants on two tasks: IQL, and QMIX with two learning rates."""
    for task in range(2):
        for seed in range(n_seeds):
            for i, (algorithm, lr) in enumerate([("iql", 0.001), ("qmix", 0.001), ("qmix", 0.01)]):
                high = 10.0 * task + 0.5 * i + 0.1 * ((seed * 7 + i * 3 + task) % 5)
                points = [10.0 * task - 1.0 + (high + 1.0 - 10.0 * task) * k / 4 for k in range(5)]
                make_run(
                    folder / f"t{task}" / f"{algorithm}-{lr}-{seed}",
                    points,
                    algorithm=algorithm,
                    env=f"some:Env-v{task}",
                    seed=seed,
                    settings={"lr": lr},
                )
    return folder


def compared(*folders: Path, settings: Settings | None = None) -> Comparison:
    """The comparison of the runs in these folders, with few samples."""
    settings = settings or Settings(samples=200)
    cells, _ = in_cells(read_runs(folders, settings.metric))
    return compare(cells, settings)
