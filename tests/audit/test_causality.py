"""The probe `causality`: terms up to their horizon, padded and on an EpisodeBatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import Case, audit
from endmark.episodes import EpisodeBatch, step_mask
from support.helpers import random_batch
from support.td_losses import Batch, case_of, network, right


def with_terms(net: nn.Module, reach: int) -> Callable[[Batch], dict[str, Tensor]]:
    """A step's term sees `reach` frames ahead."""

    def loss(batch: Batch) -> dict[str, Tensor]:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        frames = nn.functional.pad(steps, (1, 0), value=True)
        value = torch.where(frames, net(batch["obs"]).sum((2, 3)), 0.0)
        ahead = sum(nn.functional.pad(value, (0, k))[:, k:] for k in range(1, reach + 1))
        terms = torch.where(steps, (value + ahead)[:, :-1], 0.0)
        return {"loss": terms.sum() / steps.sum().clamp(min=1), "per_step": terms}

    return loss


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("reach", "horizon", "leaks"), [(1, 1, 0), (2, 1, 1), (2, 2, 0), (5, 2, 1), (1, 3, 0)]
)
def test_causality_up_to_the_horizon(reach: int, horizon: int, leaks: int, quick: bool) -> None:
    net = network()
    case = case_of(with_terms(net, reach), net, horizon=horizon)
    report = audit(case, probes=["causality"], quick=quick)
    assert len(report.leaks) == leaks
    assert report.skipped == {}
    for finding in report.leaks:
        assert finding.field == "obs"
        assert f"after t = {finding.cells[0][1] - 1}" in finding.what


def test_causality_on_an_episode_batch() -> None:
    """Terms are one a step, [S], and cells are frames."""
    batch = random_batch(2, n_agents=1, state=False)
    net = nn.Linear(5, 1)

    def loss(given: EpisodeBatch, reach: int) -> dict[str, Tensor]:
        value, steps = net(given.obs)[:, 0, 0], given.step_frames
        last = (given.lengths + 1).cumsum(0).repeat_interleave(given.lengths) - 1
        terms = value[steps] + value[torch.minimum(steps + reach, last)]
        return {"loss": terms.mean(), "per_step": terms}

    for reach, leaks in [(0, 0), (1, 0), (2, 1), (3, 1)]:
        case = Case(partial(loss, reach=reach), batch, net, horizon=1)
        assert len(audit(case, probes=["causality"]).leaks) == leaks


def test_per_step_terms_of_a_shape_that_means_nothing_are_told() -> None:
    net = network()

    def loss(batch: Batch) -> dict[str, Tensor]:
        return {"loss": right(net)(batch), "per_step": torch.zeros(3, 2)}

    report = audit(case_of(loss, net, horizon=1))
    assert report.skipped == {
        "causality": "'per_step' has shape (3, 2): want (7, 8), a term a cell, or one column less"
    }
