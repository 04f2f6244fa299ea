"""Metrics in W&B and MLflow, both offline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from endmark import trackers
from endmark.run import Counters, Run
from endmark.trackers import check_installed, flat
from support.commands import status

CONFIG = {"env": "matrix:climbing", "seed": 3, "algorithm": {"name": "iql", "lr": 0.001}}


class Noted:
    """A tracker that notes what it is given."""

    made: list[Noted]

    def __init__(self, directory: Path, config: Mapping[str, Any], id: str | None) -> None:
        self.id: str | None = id or f"run{len(Noted.made)}"
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.config, self.directory, self.closed = config, directory, False
        Noted.made.append(self)

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((env_steps, metrics))

    def close(self) -> None:
        self.closed = True


def test_a_run_that_goes_on_is_the_same_run_to_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": Noted})
    monkeypatch.setattr(Noted, "made", [], raising=False)
    with Run(tmp_path, CONFIG, log_to=("wandb",)) as run:
        run.begin()
        run.log(Counters(100, 1, 0), {"greedy_return": 2.0})
        state = run.state_dict()
    with Run(tmp_path, CONFIG, resume=True, log_to=("wandb",)) as run:
        run.load_state_dict(state, Counters(100, 1, 0))
        run.log(Counters(200, 2, 0), {"greedy_return": 3.0})
    first, second = Noted.made
    assert first.logged == [(100, {"greedy_return": 2.0})]
    assert second.logged == [(200, {"greedy_return": 3.0})]
    assert first.id == second.id == "run0"
    assert first.config == CONFIG
    assert first.directory == tmp_path
    assert first.closed
    assert second.closed


def test_wandb_writes_beside_the_run_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with Run(tmp_path / "run", CONFIG, log_to=("wandb",)) as run:
        run.begin()
        run.log(Counters(100, 1, 0), {"greedy_return": 2.0})
        (id,) = run.state_dict()["trackers"].values()
    (written,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*-{id}/run-{id}.wandb")
    wanted = (b"greedy_return", b"env_steps", b"matrix:climbing")
    for _ in range(100):  # a process of W&B's own writes it, sometimes a moment after `finish`
        if all(text in written.read_bytes() for text in wanted):
            return
        time.sleep(0.1)
    raise AssertionError("not written within ten seconds")


@pytest.mark.filterwarnings("default")  # of the packages that MLflow uses
def test_mlflow_writes_a_database_into_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with Run(tmp_path / "run", CONFIG, log_to=("mlflow",)) as run:
        run.begin()
        run.log(Counters(100, 1, 0), {"greedy_return": 2.0, "loss": 0.5})
        run.log(Counters(200, 2, 1), {"greedy_return": 3.0})
        (id,) = run.state_dict()["trackers"].values()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    history = [(m.step, m.value) for m in client.get_metric_history(id, "greedy_return")]
    assert history == [(100, 2.0), (200, 3.0)]
    found = client.get_run(id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {name: str(value) for name, value in flat(CONFIG)}


def test_what_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"^log_to: given 'comet', want some of wandb, mlflow$"):
        check_installed(["comet"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = "train iql --env matrix:climbing --steps 10 --log-to wandb --run-dir"
    assert status(*command.split(), tmp_path / "run") == 2
    said = 'endmark: log_to: wandb is not installed: pip install "endmark[wandb]"\n'
    assert capsys.readouterr().err == said
    assert not (tmp_path / "run" / "config.json").exists()
