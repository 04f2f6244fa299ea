"""The page's algorithm is the example's, keeps to the contract, does not leak, and learns."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from endmark.algorithms import AlgorithmConfig, Learner
from endmark.algorithms.named import config_class
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch
from endmark.training import TrainConfig, evaluate, random_policy, train
from support.helpers import make_spec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def reinforce(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("reinforce", ROOT / "examples" / "reinforce.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reinforce", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_example_whole() -> None:
    page = (ROOT / "docs" / "an-algorithm-from-zero.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = (ROOT / "examples" / "reinforce.py").read_text("utf-8")
    shown = [line for block in blocks for line in block.splitlines() if line]
    assert shown == [line for line in example.splitlines() if line]
    assert len(example.splitlines()) < 100


def test_it_keeps_to_the_contract(reinforce: Any) -> None:
    assert config_class("reinforce:ReinforceConfig") is reinforce.ReinforceConfig
    config = reinforce.ReinforceConfig()
    assert isinstance(config, AlgorithmConfig)
    learner = config.learner(make_spec(), torch.device("cpu"))
    assert isinstance(learner, Learner)
    batch = EpisodeBatch.from_padded(hard_batch(learner.spec, seed=0), learner.spec)
    assert learner.update(batch).keys() == config.METRICS.keys()


def test_it_does_not_leak(reinforce: Any) -> None:
    torch.manual_seed(0)
    learner = reinforce.ReinforceConfig().learner(make_spec(), torch.device("cpu"))
    batch = EpisodeBatch.from_padded(hard_batch(learner.spec, seed=0), learner.spec)
    report = audit(Case(learner.loss, batch, learner.networks, bootstraps=False), quick=True)
    assert report.findings == ()


@pytest.mark.slow
def test_it_learns(reinforce: Any, tmp_path: Path) -> None:
    algorithm = reinforce.ReinforceConfig(gamma=0.99)
    config: TrainConfig[Any] = TrainConfig(algorithm, "CartPole-v1", steps=40_000, eval_every=40_000)
    learner, _, _ = train(config, tmp_path, lambda *_: None)
    trained = evaluate(config, learner.greedy_policy(config.n_envs), 20)
    assert trained.return_mean > 5 * evaluate(config, random_policy(), 20).return_mean
