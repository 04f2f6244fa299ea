"""The tables of `make family`: whose returns they hold, and that published ones are of the same thing."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.family import PUBLISHED, TASKS, beside_published, highest_mean, returns, tasks_of

from endmark.algorithms import ALGORITHMS
from endmark.experiments.grid import read_grid
from endmark.training.final import FINAL

GRID = Path(__file__).parents[2] / "benchmarks" / "grids" / "family.toml"


def write_run(directory: Path, algorithm: str, task: str, seed: int, curve: list[float]) -> None:
    directory.mkdir(parents=True)
    config = {"algorithm": {"name": algorithm}, "env": task, "env_arg": ["x=1"], "seed": seed, "steps": 100}
    (directory / "config.json").write_text(json.dumps(config))
    lines = [{"env_steps": 10 * i, "seconds": 60 * i, "greedy_return": g} for i, g in enumerate(curve, 1)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = {"env_steps": 0, "return": [curve[-1], curve[-1] + 1.0], "length": [1.0, 1.0]}
    (directory / FINAL).write_text(json.dumps({"greedy": values, "best": values, "random": values}))


def test_the_tables_are_of_each_seeds_last_weights_and_of_the_best_mean(tmp_path: Path) -> None:
    spread = "mpe2.simple_spread_v3"
    write_run(tmp_path / "b", "qmix", spread, 1, [-50.0, -60.0])
    write_run(tmp_path / "a", "qmix", spread, 0, [-70.0, -40.0, -20.0])
    write_run(tmp_path / "c", "vdn", "other", 0, [3.0])
    tasks = tasks_of([tmp_path])
    assert highest_mean(tasks[spread]["qmix"]) == -50.0  # the second evaluation, which both have
    lines = returns(tasks)
    assert "| `qmix` | -19.5, -59.5 |  |" in lines
    assert "| `vdn` |  | 3.5 |" in lines
    assert lines[-1] == "| random | -19.5 | 3.5 |"
    assert "| `qmix` | -175.00 | -126.62 ± 2.96 |" in beside_published(tasks)
    assert "| `vdn` |  | -131.03 ± 1.85 |" in beside_published(tasks)


def test_an_incomplete_run_counts_in_no_table_of_last_weights(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "qmix", "other", 0, [1.0])
    (tmp_path / "a" / FINAL).unlink()
    assert "| `qmix` |  |" in returns(tasks_of([tmp_path]))


def test_the_grid_has_every_published_task_and_algorithm() -> None:
    grid = read_grid(GRID)
    assert set(TASKS) <= set(grid.tasks)
    assert set(PUBLISHED) <= set(grid.algorithms) <= set(ALGORITHMS)
    assert all(len(values) == len(TASKS) for values in PUBLISHED.values())


def test_a_return_of_simple_spread_in_the_published_units() -> None:
    """There an agent's return is the sum over all of minus the distances and collisions, itself included."""
    spread = pytest.importorskip("mpe2.simple_spread_v3")
    env, collisions = spread.parallel_env(), 0
    for seed in range(5):
        env.reset(seed=seed)
        draw = np.random.default_rng(seed)
        ours, theirs = 0.0, 0.0
        while env.agents:
            rewards = env.step({agent: int(draw.integers(5)) for agent in env.agents})[1]
            ours += sum(rewards.values())
            world = env.unwrapped.world
            at = [np.asarray(agent.state.p_pos) for agent in world.agents]
            distances = sum(
                min(float(np.linalg.norm(place - mark.state.p_pos)) for place in at)
                for mark in world.landmarks
            )
            size = world.agents[0].size
            touching = [np.linalg.norm(a - b) < 2 * size for a, b in itertools.product(at, at)]
            theirs -= 3 * distances + sum(touching)
            collisions += sum(touching) - len(at)
        assert TASKS["mpe2.simple_spread_v3"].theirs(ours) == pytest.approx(theirs, rel=1e-6)
    assert collisions > 0  # else their part was not tested
