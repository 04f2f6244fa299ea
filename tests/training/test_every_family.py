"""Every family of environments that is installed trains: a run of 1000 steps on its first example."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import IPPOConfig, VDNConfig
from endmark.envs import installed
from endmark.envs.known import Family
from endmark.training import TrainConfig, train

FAMILIES = installed()
SHORTER = {"rware": 50, "jaxmarl": 50, "gymnasium_robotics": 50}  # instead of 400 and more
STEPS = 1000


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=[family.examples[0] for family in FAMILIES])
def test_it_trains(family: Family, tmp_path: Path) -> None:
    """Half of them off-policy and half on-policy; every loss is finite, and there is an evaluation."""
    if not family.is_installed:
        pytest.skip(family.install)
    algorithm: Any = (
        IPPOConfig(hidden_size=16, batch_size=8)
        if FAMILIES.index(family) % 2 or family.package == "gymnasium_robotics"  # its actions are vectors
        else VDNConfig(hidden_size=16, batch_size=8, replay_frames=10_000)
    )
    config = TrainConfig[Any](
        algorithm,
        family.examples[0],
        steps=STEPS,
        n_envs=8,
        log_every=250,
        eval_every=STEPS // 2,
        eval_episodes=4,
        episode_limit=SHORTER.get(family.package),
    )
    _, counters, stopped = train(config, tmp_path, lambda *_: None)
    assert not stopped
    assert counters.env_steps >= STEPS
    assert counters.updates > 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for name, value in line.items() if "loss" in name]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    returns = [line["greedy_return"] for line in lines if "greedy_return" in line]
    assert len(returns) >= 2
    assert all(math.isfinite(value) for value in returns)
