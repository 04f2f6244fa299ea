"""Runs that EPyMARL has written stand beside ours; what cannot be compared is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endmark.cli import main
from endmark.experiments.sacred import read_sacred
from endmark.run import RunError
from support.compared import make_run

ENV = "lbforaging:Foraging-8x8-2p-2f-coop-v3"
CONFIG: dict[str, Any] = {
    "name": "qmix",
    "env": "gymma",
    "env_args": {"key": ENV, "time_limit": 50, "seed": 3},
    "seed": 3,
    "t_max": 2000,
    "test_nepisode": 20,
    "common_reward": True,
    "reward_scalarisation": "sum",
    "lr": 0.0005,
}
METRICS: dict[str, Any] = {
    "return_mean": {"steps": [500], "timestamps": ["2026-01-01T00:00:10.5"], "values": [0.1]},
    "test_return_mean": {
        "steps": [1000, 2000],
        "timestamps": ["2026-01-01T00:00:20.5", "2026-01-01T00:00:40.5"],
        "values": [0.25, 0.5],
    },
    "test_ep_length_mean": {"steps": [1000, 2000], "timestamps": [], "values": [50, 40]},
}


def write(directory: Path, config: Any = CONFIG, metrics: Any = METRICS) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "metrics.json").write_text(json.dumps(metrics))
    return directory


def test_what_is_read(tmp_path: Path) -> None:
    run = read_sacred(write(tmp_path / "1"))
    assert run is not None
    assert run.task == f"{ENV} episode_limit=50", "as of endmark train --env ... --episode-limit 50"
    assert (run.algorithm, run.seed, run.budget, run.eval_episodes) == ("epymarl qmix", "3", 2000, 20)
    assert run.curve("greedy_return") == [(1000.0, 0.25), (2000.0, 0.5)]
    assert run.curve("greedy_length") == [(1000.0, 50.0), (2000.0, 40.0)]
    assert run.seconds() == 30.0
    assert dict(run.settings) == {"common_reward": True, "reward_scalarisation": "sum", "lr": 0.0005}


def test_a_directory_of_ours_is_none_of_theirs(tmp_path: Path) -> None:
    assert read_sacred(tmp_path) is None


def test_a_map_and_rewards_of_each_agent(tmp_path: Path) -> None:
    config = CONFIG | {"env": "sc2", "env_args": {"map_name": "8m"}, "common_reward": False}
    metrics = {"test_total_return_mean": METRICS["test_return_mean"]}
    run = read_sacred(write(tmp_path / "1", config, metrics))
    assert run is not None
    assert run.task == "sc2:8m"
    assert run.final("greedy_return") == 0.5


@pytest.mark.parametrize(
    ("config", "metrics", "says"),
    [
        (CONFIG | {"reward_scalarisation": "mean"}, METRICS, "given 'mean', want 'sum'"),
        ({"name": "qmix"}, METRICS, "want name, env and env_args"),
        ([], METRICS, "want an object"),
        (CONFIG, {}, "no 'greedy_return' in metrics.json"),
        (CONFIG, {"test_return_mean": {"steps": [1], "values": []}}, "given 1 steps and 0 values"),
        (CONFIG, {"test_return_mean": {"steps": ["x"], "values": [1.0]}}, "given 'x' as steps"),
        (CONFIG, {"test_return_mean": {"steps": [1], "values": [None]}}, "no 'greedy_return'"),
        (CONFIG, {"test_return_mean": 3}, "want an object"),
    ],
)
def test_what_cannot_be_read_is_said(config: Any, metrics: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=says):
        read_sacred(write(tmp_path / "1", config, metrics))


def test_no_json(tmp_path: Path) -> None:
    directory = write(tmp_path / "1")
    (directory / "metrics.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="is no JSON"):
        read_sacred(directory)
    (directory / "metrics.json").write_bytes(b"\xff{")
    with pytest.raises(RunError, match="is no JSON"):
        read_sacred(directory)


def test_both_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        write(tmp_path / "sacred" / "qmix" / str(seed), CONFIG | {"seed": seed})
        make_run(tmp_path / "runs" / str(seed), [0.3, 0.6], seed=seed, env=ENV, episode_limit=50)
    write(tmp_path / "sacred" / "qmix" / "odd", CONFIG | {"reward_scalarisation": "mean"})
    main(["compare", str(tmp_path / "runs"), str(tmp_path / "sacred"), "--samples", "100"])
    out = " ".join(capsys.readouterr().out.split())
    assert "epymarl qmix" in out
    assert "left out:" in out
    assert "want 'sum'" in out
