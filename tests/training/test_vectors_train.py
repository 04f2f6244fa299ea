"""Runs whose actions are vectors: in workers, overlapped, stopped and resumed, evaluated and played."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.algorithms import HAPPOConfig, IPPOConfig, MADDPGConfig, MAPPOConfig, VDNConfig
from endmark.episodes import Seen
from endmark.training import TrainConfig, evaluate, load, random_policy, train
from support.stopping import assert_goes_on_wherever_it_is_stopped, assert_same_run, lines_of
from support.trials import WHOLE

SMALL: dict[str, Any] = {
    "env": "mpe2.simple_spread_v3",
    "env_arg": ("continuous_actions=true", "max_cycles=9"),
    "steps": 600,
    "n_envs": 4,
    "log_every": 100,
    "eval_every": 200,
    "eval_episodes": 4,
}
IPPO = IPPOConfig(hidden_size=8, batch_size=4, epochs=2, minibatches=2)
MADDPG = MADDPGConfig(hidden_size=8, batch_size=4, replay_frames=500, noise_steps=400)
CONFIGS: dict[str, TrainConfig[Any]] = {
    "ippo": TrainConfig(IPPO, **SMALL),
    "mappo-tanh": TrainConfig(MAPPOConfig(hidden_size=8, batch_size=4, squash="tanh"), **SMALL),
    "happo": TrainConfig(HAPPOConfig(hidden_size=8, batch_size=4, epochs=2), **SMALL),
    "maddpg": TrainConfig(MADDPG, **SMALL),
    "maddpg-overlap": TrainConfig(MADDPG, overlap=True, **SMALL),
    "maddpg-numbered": TrainConfig(MADDPG, **SMALL | {"env_arg": ("max_cycles=9",)}),
    "ippo-vmas": TrainConfig(
        IPPO,
        **SMALL | {"env": "vmas:balance", "env_arg": ("continuous_actions=true", "max_steps=9")},
    ),
}


def quietly(*_: object) -> None:
    pass


# `make kill-test` asks for all.
@pytest.mark.parametrize("name", CONFIGS if WHOLE else ["happo", "maddpg-overlap", "ippo-vmas"])
def test_a_run_that_is_stopped_anywhere_goes_on_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: vectors in running episodes, in the replay and in the noise of policies and losses."""
    whole = assert_goes_on_wherever_it_is_stopped(CONFIGS[name], name, tmp_path, monkeypatch, at_least=1)
    assert any("loss" in line for line in lines_of(whole))


@pytest.mark.parametrize("name", ["maddpg"])
def test_workers_change_no_bit(name: str, tmp_path: Path) -> None:
    train(CONFIGS[name], tmp_path / "here", quietly)
    train(replace(CONFIGS[name], workers=2), tmp_path / "there", quietly)
    assert_same_run(tmp_path / "there", tmp_path / "here")


def test_a_run_is_loaded_and_evaluated_beside_random_vectors(tmp_path: Path) -> None:
    config = CONFIGS["ippo"]
    learner = train(config, tmp_path, quietly)[0]
    loaded = load(tmp_path)[1]
    assert loaded.spec == learner.spec
    policies = [loaded.greedy_policy(4), learner.greedy_policy(4)]
    assert evaluate(config, policies[0], 4) == evaluate(config, policies[1], 4)
    assert evaluate(config, random_policy(loaded.spec.bounds), 4).episodes == 4


def test_an_algorithm_for_numbered_actions_says_so_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="actions: given vectors of 5 numbers, want numbered actions; ippo"):
        train(replace(CONFIGS["ippo"], algorithm=VDNConfig(batch_size=4)), tmp_path / "run", quietly)
    assert not (tmp_path / "run").exists()


def test_at_the_command_line(tmp_path: Path) -> None:
    def endmark(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "endmark", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    directory = str(tmp_path / "run")
    env = ("--env", "mpe2.simple_spread_v3", "--env-arg", "continuous_actions=true")
    small = ("--hidden-size", "8", "--batch-size", "4", "--steps", "400", "--run-dir", directory)
    done = endmark("train", "ippo", *env, *small, "--squash", "tanh", "--final-episodes", "3")
    assert done.returncode == 0, done.stderr
    assert "random" in done.stdout
    refused = endmark("play", directory, "--values")
    assert refused.returncode == 2
    assert "values: given a run whose actions are vectors" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = endmark("train", "qmix", *env, "--run-dir", str(tmp_path / "other"))
    assert refused.returncode == 2
    assert "want numbered actions" in refused.stderr
    assert "Traceback" not in refused.stderr


def halves(seen: Seen, generator: torch.Generator) -> torch.Tensor:
    """A partner: 0.5 everywhere."""
    return torch.full(seen.last_actions.shape, 0.5)


def outside(seen: Seen, generator: torch.Generator) -> torch.Tensor:
    """A partner that leaves the bounds."""
    return torch.full(seen.last_actions.shape, 7.0)


def numbers(seen: Seen, generator: torch.Generator) -> torch.Tensor:
    """A partner that takes actions for numbers."""
    return torch.zeros(seen.last_actions.shape[:2], dtype=torch.int64)


@pytest.mark.parametrize("name", ["ippo", "maddpg"])
def test_partners_give_vectors_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIGS[name], partners=(f"{__name__}:halves",), steps=300)
    counters = train(config, tmp_path / "run", quietly)[1]
    assert counters.updates > 0
    for partner, message in [
        ("outside", "field 'actions': episode 0, step 0, agent .* given 7.0, want 0 to 1"),
        ("numbers", r"partner .*numbers: given shape \(4, 3\), want actions of shape \(4, 3, 5\)"),
    ]:
        other = replace(config, partners=(f"{__name__}:{partner}",))
        with pytest.raises(ValueError, match=message):
            train(other, tmp_path / partner, quietly)
