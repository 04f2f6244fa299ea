"""A run can be stopped at any moment, in the middle of an episode or an evaluation, and goes on there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import MAPPOConfig, QMIXConfig
from endmark.episodes import EpisodeBatch
from endmark.rollout import Summary, summarise
from endmark.run import BEST, METRICS, WEIGHTS, read_checkpoint, read_metrics
from endmark.training import TrainConfig
from support.stopping import (
    StopAfter,
    assert_goes_on_wherever_it_is_stopped,
    lines_of,
    run,
)
from support.trials import WHOLE

LBF = "lbforaging:Foraging-5x5-2p-1f-v3"
SMALL: dict[str, Any] = {
    "env": LBF,
    "steps": 1_500,
    "n_envs": 3,
    "log_every": 100,
    "eval_every": 300,
    "eval_episodes": 5,
}
QMIX = QMIXConfig(hidden_size=8, batch_size=4, replay_frames=600, epsilon_steps=1_000)
CONFIGS: dict[str, TrainConfig[Any]] = {
    "qmix": TrainConfig(QMIX, **SMALL),
    "overlap": TrainConfig(QMIX, overlap=True, **SMALL),
    "mappo": TrainConfig(MAPPOConfig(hidden_size=8, batch_size=4, minibatches=2), **SMALL),
}


# `make kill-test` asks for all.
@pytest.mark.parametrize("name", CONFIGS if WHOLE else ["overlap", "mappo"])
def test_a_run_that_is_stopped_anywhere_goes_on_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_goes_on_wherever_it_is_stopped(CONFIGS[name], name, tmp_path, monkeypatch, at_least=2)


def test_a_stop_before_the_last_evaluation_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIGS["qmix"], eval_every=10**6)  # all questions in the evaluation come last
    never = StopAfter(10**9)
    run(config, tmp_path / "whole", never, monkeypatch)
    assert run(config, tmp_path / "stopped", StopAfter(10**9 - never.left - 2), monkeypatch)
    assert not any("greedy_return" in line for line in read_metrics(tmp_path / "stopped"))
    assert not run(config, tmp_path / "stopped", StopAfter(10**9), monkeypatch)
    assert lines_of(tmp_path / "stopped") == lines_of(tmp_path / "whole")


def test_the_best_checkpoint_is_that_of_the_best_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = iter([1.0, 3.0, 3.0, 2.0, 0.0])

    def scripted(batch: EpisodeBatch) -> Summary:
        return replace(summarise(batch), return_mean=next(returns))

    monkeypatch.setattr("endmark.training.evaluation.summarise", scripted)
    assert run(CONFIGS["mappo"], tmp_path, StopAfter(700), monkeypatch)  # between two evaluations
    assert not run(CONFIGS["mappo"], tmp_path, StopAfter(10**9), monkeypatch)
    evaluated = [line for line in read_metrics(tmp_path) if "greedy_return" in line]
    assert [line["greedy_return"] for line in evaluated] == [1.0, 3.0, 3.0, 2.0, 0.0]
    assert read_checkpoint(tmp_path, BEST)[0].env_steps == evaluated[2]["env_steps"]
    assert read_checkpoint(tmp_path, WEIGHTS)[0].env_steps == evaluated[4]["env_steps"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stop_does_not_wait_for_an_episodes_end(workers: int, tmp_path: Path) -> None:
    arguments = (
        "train iql --env support.endless:Endless --batch-size 1 --replay-frames 200000 --hidden-size 8 "
        f"--n-envs 2 --workers {workers} --run-dir"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "endmark", *arguments.split(), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (tmp_path / "run" / METRICS).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)  # an episode takes longer than that
    assert process.returncode == 3, err
    assert "Ctrl-C: stopping" in err
    assert "nothing was learnt: 0 steps are 0 episodes" in out
