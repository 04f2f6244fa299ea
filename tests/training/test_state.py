"""The states of a run's parts are all that its future depends on: exact resume is built on them."""

from __future__ import annotations

import copy
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from endmark.algorithms import IA2CConfig, IPPOConfig, IQLConfig, QMIXConfig
from endmark.rollout import InProcess
from endmark.run import Counters, RunError
from endmark.training import TrainConfig
from endmark.training.build import make_envs
from endmark.training.meters import Every, Meters
from endmark.training.parts import make_parts
from endmark.training.resume import restore
from endmark.training.updates import settle

LBF = "lbforaging:Foraging-5x5-2p-1f-v3"
SMALL: dict[str, Any] = {"hidden_size": 8, "batch_size": 4}
OFF_POLICY: dict[str, Any] = {**SMALL, "replay_frames": 300, "epsilon_steps": 500}
CONFIGS: dict[str, TrainConfig[Any]] = {
    "iql": TrainConfig(IQLConfig(**OFF_POLICY), LBF, seed=2, n_envs=3),
    "qmix": TrainConfig(QMIXConfig(share="none", **OFF_POLICY), LBF, seed=2, n_envs=3),
    "prioritised": TrainConfig(
        QMIXConfig(priority_exponent=0.6, **OFF_POLICY), LBF, seed=2, n_envs=3, overlap=True
    ),
    "attention": TrainConfig(
        IQLConfig(agent="attention", attention_window=6, **OFF_POLICY), LBF, seed=7, n_envs=3
    ),
    "ia2c": TrainConfig(IA2CConfig(**SMALL), LBF, seed=2, n_envs=3),
    "ippo": TrainConfig(IPPOConfig(minibatches=2, **SMALL), LBF, seed=2, n_envs=3),
}


class Parts:
    """A run's parts, and its loop without files."""

    def __init__(self, config: TrainConfig[Any]) -> None:
        envs = make_envs(config, config.n_envs)
        assert isinstance(envs, InProcess)
        made = make_parts(config, envs, envs)
        self.learner, self.store, self.policy = made.learner, made.store, made.policy
        self.rollout, self.evaluation = made.rollout, made.evaluation
        self.updates, self.meters, self.due = made.updates, Meters(), Every(100)
        self.close = envs.close

    def run(self, collects: int) -> list[Any]:
        """Everything that can be seen from outside, after each collect."""
        seen: list[Any] = []
        for _ in range(collects):
            schedule = self.policy.schedule(self.rollout.env_steps)
            episodes = self.rollout.collect(self.policy)
            self.store.add(episodes)
            for batch in self.store.due():
                self.updates.begin(batch)
            settle(self.updates, self.meters, self.store)
            metrics = {}
            if self.due.due(self.rollout.env_steps):
                metrics = self.meters.pop()
                self.due.done(self.rollout.env_steps)
            counters = self.rollout.env_steps, self.rollout.episodes, self.learner.updates
            seen.append([schedule, episodes.lengths.tolist(), counters, metrics])
        return seen

    def state(self) -> dict[str, Any]:
        parts = "learner", "updates", "store", "rollout", "policy", "meters", "due"
        return {name: copy.deepcopy(getattr(self, name).state_dict()) for name in parts}

    def load(self, state: dict[str, Any]) -> None:
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_goes_on_from_the_states_of_its_parts(name: str) -> None:
    config = CONFIGS[name]
    whole = Parts(config)
    whole.run(17)
    state = whole.state()
    want = whole.run(15)
    torch.rand(3)  # what else is drawn does not matter
    other = Parts(config)
    other.run(4)  # nor does what its parts went through before
    other.load(state)
    given = other.run(15)
    assert given == want
    assert whole.learner.updates > 2
    assert len({tuple(lengths) for _, lengths, _, _ in want}) > 1
    for key, tensor in whole.learner.networks.state_dict().items():
        assert torch.equal(tensor, other.learner.networks.state_dict()[key]), key
    whole.close()
    other.close()


@pytest.mark.parametrize("wrong", [{"lengths": 3}, 3, None, {}, [["x"]]])
@pytest.mark.parametrize("part", ["learner", "store", "rollout", "policy", "evaluation", "meters"])
def test_a_part_that_is_given_anything_else_is_one_line(part: str, wrong: Any, tmp_path: Path) -> None:
    parts = Parts(CONFIGS["iql"])
    state = parts.state() | {"run": {}, "counters": Counters()._asdict(), "torch": torch.get_rng_state()}
    run = SimpleNamespace(directory=tmp_path)
    parts.close()
    with pytest.raises(RunError, match=r"state\.safetensors does not fit the run's config: ") as refused:
        unwrap(restore)({part: getattr(parts, part)}, run, state | {part: wrong})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong", [{"env_steps": "x"}, {"env_steps": -1, "episodes": 0, "updates": 0}, [], None]
)
def test_counters_of_another_kind(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not fit the run's config: counters: "):
        unwrap(restore)({}, SimpleNamespace(directory=tmp_path), {"counters": wrong})
