"""The probe `poison`: fields that matter where they should not, one by one or only together."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from endmark.audit import Case, audit, reproduce
from endmark.episodes import EpisodeBatch, step_mask
from support.helpers import make_batch, make_spec
from support.td_losses import Batch, case_of, hard, network, right, td_loss


def test_a_metric_that_leaks_is_found_though_the_loss_does_not() -> None:
    net = network()

    def loss(batch: Batch) -> dict[str, Tensor]:
        return {"loss": right(net)(batch), "mean_reward": batch["reward"].mean()}

    report = audit(case_of(loss, net), probes=["poison"])
    assert {f.field for f in report.findings} == {"reward"}
    assert {change.what for f in report.findings for change in f.moved} == {"metric mean_reward"}
    assert {f.severity for f in report.findings} == {"metric"}  # the loss is right
    assert report.leaks == ()


def test_a_buffer_that_leaks_is_found_though_the_loss_does_not() -> None:
    net = network()
    norm = nn.BatchNorm1d(1, affine=False)

    def loss(batch: Batch) -> Tensor:
        norm(batch["reward"].flatten(0, 1))
        return right(net)(batch)

    case = Case(loss, hard(), [net, norm])
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    report = audit(case, probes=["poison"])
    assert {change.what for f in report.leaks for change in f.moved} == {
        "buffer 1.running_mean",
        "buffer 1.running_var",
    }
    assert torch.equal(norm.running_mean, before)  # and it is as it was
    assert int(norm.num_batches_tracked or 0) == 0


def test_buffers_that_are_no_part_of_the_state_dict_are_put_back() -> None:
    net = network()
    seen = torch.zeros(())
    net.register_buffer("seen", seen, persistent=False)

    def loss(batch: Batch) -> Tensor:
        seen.add_(batch["reward"][:, 0].sum())
        return right(net)(batch) + seen * 0

    assert audit(case_of(loss, net), probes=["poison"]).findings == ()
    assert float(seen) == 0.0


def test_a_gradient_that_appears_from_nowhere_is_a_leak() -> None:
    """The parameter has no gradient on the batch as it is, so it is in no list of gradients."""
    net, hidden = network(), nn.Linear(1, 1)

    def loss(batch: Batch) -> Tensor:
        total = right(net)(batch)
        if (batch["reward"][:, -1] > 0.5).any():
            total = total + hidden(torch.zeros(1)).sum() * 0 + hidden.bias.sum() * 0
            total = total + (hidden.bias - hidden.bias.detach()).sum()  # no value, a gradient
        return total

    report = audit(Case(loss, hard(), [net, hidden]), probes=["poison"])
    assert {change.what for f in report.leaks for change in f.moved} == {"gradient of 1.bias"}


def test_two_fields_that_matter_only_together_are_named_together() -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        _, steps = td_loss(batch, net)
        mixed = batch["reward"][:, :-1, 0] * batch["extra"][:, :-1]
        return right(net)(batch) + torch.where(steps, 0.0, mixed).sum()

    batch = hard() | {"extra": torch.zeros(7, 8)}
    report = audit(case_of(loss, net, batch=batch, step_fields=("reward", "extra")), probes=["poison"])
    assert {f.field for f in report.leaks} == {"reward, extra"}
    assert all("'reward' and 'extra'" in f.what for f in report.leaks)
    for finding in report.leaks:
        plain, disturbed = reproduce(
            case_of(loss, net, batch=batch, step_fields=("reward", "extra")), finding
        )
        assert not torch.equal(loss(plain), loss(disturbed))


def test_a_loss_that_fails_on_other_padding_is_fragile() -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        if batch["obs"][:, 1:][step_mask(batch["filled"], batch["terminated"])[..., 0] == 0].any():
            raise ZeroDivisionError("no such observation")
        return right(net)(batch)

    report = audit(case_of(loss, net), probes=["poison"])
    assert report.leaks == ()
    assert {f.severity for f in report.findings} == {"fragile"}
    assert all("fails" in str(finding.moved[0]) for finding in report.findings)
    assert "ZeroDivisionError: no such observation (test_poison.py, line" in str(report.findings[0].moved[0])


def test_the_content_of_undefined_cells_does_not_set_the_range_of_what_is_drawn() -> None:
    """An EpisodeBatch may hold any integer in the step fields of final frames."""
    spec = make_spec(n_agents=2, state=False)
    batch = make_batch(spec, [3, 5, 1, 7], [True, False, True, False], seed=3)
    assert int(batch["actions"].abs().max()) > 1000
    net = nn.Linear(5, 1)

    def loss(given: EpisodeBatch) -> Tensor:
        assert int(given.steps("actions").max()) < spec.n_actions
        error: Tensor = net(given.obs[given.step_frames])
        return error.square().mean()

    report = audit(Case(loss, batch, net, bootstraps=False), probes=["poison"])
    assert report.findings == ()


def test_warnings_of_small_batches_are_not_errors_of_the_audit() -> None:
    """Shrinking asks about a single episode, of which a standard deviation warns."""
    net = network()

    def loss(batch: Batch) -> Tensor:
        first = batch["reward"][:, 0, 0]
        if len(first) < 2:
            warnings.warn("too small", stacklevel=1)
        return right(net)(batch) + batch["reward"].mean()

    report = audit(case_of(loss, net), probes=["poison"])
    assert all(finding.reproducer is not None for finding in report.leaks)
    assert len(report.leaks) == 2
