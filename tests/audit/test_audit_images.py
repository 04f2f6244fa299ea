"""Images in uint8 under the audit: no false alarm, and a leak is found though no NaN can be written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from endmark.algorithms import ALGORITHMS, Learner
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch, EpisodeSpec

SPEC = EpisodeSpec.of(n_agents=3, n_actions=4, episode_limit=7, obs_shape=(9, 8, 3), obs_dtype=torch.uint8)


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("name", ["iql", "qmix", "mappo"])
def test_no_leak(name: str, layout: str) -> None:
    settings: dict[str, Any] = {"normalise_advantage": False, "critic": "central"} if name == "mappo" else {}
    torch.manual_seed(0)
    config: Any = ALGORITHMS[name]
    learner: Learner = config(hidden_size=8, **settings).learner(SPEC, torch.device("cpu"))
    spec, padded = learner.spec, hard_batch(learner.spec, 0)
    assert int(padded["obs"].max()) > 200

    def loss(batch: Any) -> Any:
        return learner.loss(batch if layout == "ragged" else EpisodeBatch.from_padded(batch, spec))

    batch: Any = EpisodeBatch.from_padded(padded, spec) if layout == "ragged" else padded
    report = audit(Case(loss, batch, [learner.networks], step_fields=tuple(spec.step_fields)), quick=True)
    assert report.findings == ()


def test_pictures_in_padding_that_matter_are_found() -> None:
    torch.manual_seed(0)
    net = nn.Linear(9 * 8 * 3, 1)

    def loss(batch: dict[str, Tensor]) -> Tensor:
        values = net(batch["obs"].flatten(3) / 255)[:, :-1].mean((2, 3))
        error: Tensor = values - batch["reward"][:, :-1, 0]
        return error.square().mean()

    report = audit(Case(loss, hard_batch(SPEC, 0), net), quick=True)
    assert "'obs' in padding matters" in [finding.what for finding in report.findings]
