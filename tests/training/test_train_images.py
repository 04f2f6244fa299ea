"""Training from pictures alone: it learns, goes on bit for bit, and leaves bytes behind."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.algorithms import QMIXConfig
from endmark.episodes.files import load_episodes
from endmark.run import REPLAY, Counters
from endmark.training import TrainConfig, evaluate, random_policy, train
from support.commands import status

QMIX = TrainConfig[Any](
    algorithm=QMIXConfig(
        agent="feedforward",
        lr=2e-3,
        gamma=0.9,
        td_lambda=0.0,
        batch_size=16,
        epsilon_steps=3000,
        replay_frames=10_000,
    ),
    env="support.walkers:Walkers",
    steps=3000,
    n_envs=8,
    log_every=1000,
    eval_every=3000,
    eval_episodes=8,
)


def quietly(_: Counters, __: object) -> None:
    pass


@pytest.mark.slow
def test_it_learns_where_to_walk(tmp_path: Path) -> None:
    """The best return is 1.3 on average: each agent takes the shortest way."""
    learner, *_ = train(QMIX, tmp_path, quietly)
    learned = evaluate(QMIX, learner.greedy_policy(QMIX.n_envs), 50)
    random = evaluate(QMIX, random_policy(), 50)
    assert abs(random.return_mean) < 0.2
    assert learned.return_mean > 0.7
    assert learned.return_low > random.return_high


@pytest.mark.parametrize("kind", ["gru", "attention", "feedforward"])
def test_it_goes_on_bit_for_bit_and_leaves_bytes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    algorithm = replace(QMIX.algorithm, agent=kind, batch_size=4, hidden_size=8)
    config = replace(QMIX, algorithm=algorithm, steps=500, n_envs=3)
    whole, *_ = train(config, tmp_path / "whole", quietly)
    stopping = count(1)

    def stop_once(counters: Counters, _: object) -> None:
        if next(stopping) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    _, counters, stopped = train(config, tmp_path / "parts", stop_once)
    assert stopped
    assert 0 < counters.env_steps < 500
    learner, *_ = train(config, tmp_path / "parts", quietly, resume=True)
    for name, tensor in whole.networks.state_dict().items():
        assert torch.equal(learner.networks.state_dict()[name], tensor), name

    episodes = load_episodes(tmp_path / "parts" / REPLAY)
    assert episodes.obs.dtype == torch.uint8
    assert not episodes.alive.all()
    assert not episodes.obs[~episodes.alive].any()
    assert status("inspect", tmp_path / "parts") == 0
    assert "sound" in capsys.readouterr().out
