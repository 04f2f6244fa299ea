"""Numbers are compared up to rounding, and never with what is left of a sum that cancels out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endmark.audit import PROBES, audit
from endmark.audit.compare import compare, relative_change
from endmark.episodes import step_mask
from support.td_losses import Batch, case_of, hard, network, probes_of


@pytest.mark.parametrize(
    ("before", "after", "floor", "want"),
    [
        ([1.0, -2.0], [1.0, -2.0], 0.0, 0.0),
        ([1.0, -2.0], [1.0, -3.0], 0.0, 1 / 3),
        ([1e-3, 0.0], [0.0, 0.0], 0.0, 1.0),
        ([1e-3, 0.0], [0.0, 0.0], 1.0, 1e-3),
        ([float("nan")], [float("nan")], 0.0, 0.0),
        ([float("inf")], [float("inf")], 0.0, 0.0),
        ([float("inf")], [float("-inf")], 0.0, float("inf")),
        ([1.0, 2.0], [1.0, float("nan")], 0.0, float("inf")),
        ([float("nan"), 2.0], [float("nan"), 1.0], 0.0, 0.5),
        ([1.0], [1.0, 1.0], 0.0, float("inf")),
        ([], [], 0.0, 0.0),
    ],
)
def test_relative_change(before: list[float], after: list[float], floor: float, want: float) -> None:
    change = relative_change(torch.tensor(before), torch.tensor(after), floor)
    assert change == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "small", "large"), [(torch.float32, 5e-6, 3e-5), (torch.float64, 5e-11, 3e-10)]
)
def test_rounding_moves_nothing_and_more_does(dtype: torch.dtype, small: float, large: float) -> None:
    before = {"loss": torch.tensor(2.0, dtype=dtype), "gradient of w": torch.tensor([3.0, 1e-9], dtype=dtype)}
    for by, count in [(small, 0), (large, 1)]:
        for name in before:
            after = {**before, name: before[name] * (1 + by)}
            assert len(compare(before, after)) == count, (name, by)


def test_a_sum_that_cancels_out_is_not_measured_against_itself() -> None:
    before = {"loss": torch.tensor(2e-8), "metric mean": torch.tensor(-1e-9), "gradient of w": torch.ones(2)}
    after = {"loss": torch.tensor(-3e-8), "metric mean": torch.tensor(4e-8), "gradient of w": torch.ones(2)}
    assert compare(before, after) == []
    assert [m.what for m in compare(before, {**after, "metric mean": torch.tensor(1e-5)})] == ["metric mean"]
    assert [m.what for m in compare(before, {**after, "loss": torch.tensor(1e-3)})] == ["loss"]


def test_float64_statistics_of_float32_values_are_as_coarse_as_they_are() -> None:
    before = {"loss": torch.tensor(1.0), "buffer mean": torch.tensor(1.0, dtype=torch.float64)}
    after = {**before, "buffer mean": torch.tensor(1.0 + 1e-7, dtype=torch.float64)}
    assert compare(before, after) == []


def test_a_policy_loss_whose_advantages_add_up_to_nothing_is_clean() -> None:
    """The first step of PPO: the ratio is 1, the loss is 0 but for rounding, and the gradient is not."""
    net = network()

    def loss(batch: Batch) -> dict[str, Tensor]:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        log_prob = net(batch["obs"][:, :-1, 0][steps])[:, 0]
        reward = batch["reward"][:, :-1, 0][steps]
        advantage = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)
        ratio = (log_prob - log_prob.detach()).exp()
        return {"loss": -(ratio * advantage).mean(), "advantage": advantage.mean()}

    for seed in range(10):
        case = case_of(loss, net, batch=hard(seed, without=["alive"]), bootstraps=False)
        probes = [name for name in PROBES if name != "empty"]
        assert probes_of(audit(case, seed=seed, probes=probes)) == {("company", "coupling")}
