"""What cannot be audited is told in one clear line that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from endmark.audit import (
    AuditError,
    Case,
    Report,
    assert_no_leaks,
    audit,
    audit_learner,
    hard_batch,
)
from endmark.episodes import EpisodeSpec, step_mask

Batch = Mapping[str, Tensor]
SPEC = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=6, obs_shape=(3,))


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def errors_of(net: nn.Module, batch: Batch) -> Tensor:
    errors: Tensor = net(batch["obs"][:, :-1, 0]) - batch["reward"][:, :-1]
    return torch.where(step_mask(batch["filled"], batch["terminated"]), errors, 0.0).square()


def steep(net: nn.Module) -> Tensor:
    """0, and no finite gradient."""
    return torch.stack([(parameter * 0).sqrt().sum() for parameter in net.parameters()]).sum()


def mean(net: nn.Module, batch: Batch) -> Tensor:
    return errors_of(net, batch).sum() / step_mask(batch["filled"], batch["terminated"]).sum().clamp(min=1)


def case_of(
    change: Callable[[nn.Module, Batch], Any] = mean, batch: Mapping[str, Any] | None = None, **options: Any
) -> Case:
    net = network()
    given: Any = hard_batch(SPEC, 0) if batch is None else batch
    options = {"bootstraps": False} | options
    return Case(lambda b: change(net, b), given, options.pop("modules", net), **options)


def refusal(case: Case, **options: Any) -> str:
    with pytest.raises(AuditError) as caught:
        audit(case, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def without(*names: str) -> dict[str, Tensor]:
    return {name: x for name, x in hard_batch(SPEC, 0).items() if name not in names}


def test_the_case_is_fine_as_it_is() -> None:
    assert audit(case_of(), quick=True).leaks == ()


def test_losses_that_are_none() -> None:
    vector = refusal(case_of(lambda net, b: errors_of(net, b).flatten()))
    assert vector == "'loss' has shape (42,): want a scalar; reduce it, as training does"
    metric = refusal(case_of(lambda net, b: {"loss": mean(net, b), "errors": errors_of(net, b)}))
    assert metric.startswith("'errors' has shape (7, 6, 1): want a scalar")
    number = refusal(case_of(lambda net, b: mean(net, b).item()))
    assert number == "the loss returned float: want a scalar tensor, or named ones with 'loss'"
    unnamed = refusal(case_of(lambda net, b: {"total": mean(net, b)}))
    assert "want a scalar tensor, or named ones with 'loss'" in unnamed
    assert "NoneType" in refusal(case_of(lambda net, b: None))


def test_losses_without_a_gradient() -> None:
    detached = refusal(case_of(lambda net, b: mean(net, b).detach()))
    assert detached.startswith("the loss has no gradient: it must depend on parameters that require one")
    other = refusal(case_of(modules=nn.Linear(2, 2)))
    assert other == (
        "the loss has no gradient with respect to any parameter of the case's modules: does it use them?"
    )


def test_a_loss_whose_modules_are_not_given_is_watched_all_the_same() -> None:
    report = audit(case_of(lambda net, b: errors_of(net, b).mean(), modules=()), quick=True)
    assert {finding.probe for finding in report.leaks} == {"padding"}
    assert {change.what for finding in report.leaks for change in finding.moved} == {"loss"}


def test_random_results_without_a_seed_are_a_finding_and_end_the_audit() -> None:
    generator = np.random.default_rng(0)
    report = audit(case_of(lambda net, b: mean(net, b) * (1 + generator.random())))
    (finding,) = report.findings
    assert (finding.probe, finding.severity) == ("purity", "leak")
    assert finding.what == "the same batch gives another result the second time"
    assert finding.repair.startswith("seed what is random inside the loss")
    why = "the same batch gives another result the second time, so nothing else can be compared"
    assert report.skipped == dict.fromkeys(report.probes[1:], why)


def test_a_loss_that_works_once() -> None:
    """A hidden state that is kept with its graph."""
    kept: list[Tensor] = []

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        kept.append(mean(net, batch) + (kept[-1] if kept else 0.0))
        return kept[-1]

    report = audit(case_of(loss))
    (finding,) = report.findings
    assert finding.what == "the loss fails the second time that it is given the same batch"
    assert "RuntimeError: Trying to backward through the graph a second time" in str(finding.moved[0])
    assert len(report.skipped) == len(report.probes) - 1


def test_a_loss_that_fails() -> None:
    def crash(net: nn.Module, batch: Batch) -> Tensor:
        raise KeyError("no_such_field")

    line = refusal(case_of(crash))
    assert line.startswith("the loss fails on the batch as it is: KeyError: 'no_such_field' (test_errors.py,")
    assert "shape" in refusal(case_of(lambda net, b: net(b["reward"]).sum()))  # torch's own words


def test_a_loss_that_is_not_finite_as_it_is() -> None:
    line = refusal(case_of(lambda net, b: mean(net, b) * torch.inf))
    assert line == "loss is not finite on the batch as it is: want numbers that can be compared"
    gradient = refusal(case_of(lambda net, b: mean(net, b) + steep(net)))
    assert gradient.startswith("gradient of weight is not finite")


def test_metrics_and_buffers_that_are_not_finite_are_no_hindrance() -> None:
    """A causal mask of -inf in a buffer, a best score of -inf, an explained variance of 0 / 0."""
    net = network()
    net.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def loss(batch: Batch) -> dict[str, Tensor]:
        return {"loss": mean(net, batch), "explained": torch.tensor(torch.nan)}

    assert audit(Case(loss, hard_batch(SPEC, 0), net, bootstraps=False), quick=True).leaks == ()


def test_batches_that_do_not_say_what_is_real() -> None:
    line = refusal(case_of(batch=without("filled", "mask", "truncated")))
    assert line.startswith("the batch has no 'filled': it has ")
    assert line.endswith("name the field that says what is real in Case(mask=...) or Case(lengths=...)")
    assert "the batch has no 'terminated'" in refusal(case_of(batch=without("terminated")))
    wrong = {**without(), "filled": torch.full((7, 7, 1), 2)}
    with pytest.raises(ValueError, match="filled"):
        audit(case_of(batch=wrong))


def test_nothing_real() -> None:
    nothing = {**without(), "filled": torch.zeros(7, 7, 1), "terminated": torch.zeros(7, 7, 1)}
    assert refusal(case_of(batch=nothing)) == "the batch has no real step: want at least one"


def test_arrays_are_no_tensors() -> None:
    line = refusal(case_of(batch={**without("reward"), "reward": np.zeros((7, 7, 1))}))
    assert line == "field 'reward' is a ndarray: want a torch tensor"


def test_an_unknown_probe() -> None:
    line = refusal(case_of(), probes=["poisson"])
    assert line.startswith("probe 'poisson': unknown; there are purity, poison, padding,")


def test_fields_that_are_not_there_are_no_clean_bill() -> None:
    """A typing error in a name would leave the field alone, and the report clean."""
    assert refusal(case_of(frame_fields=("observation",))).startswith(
        "frame_fields: no field 'observation' in the batch; it has obs, avail_actions"
    )
    assert refusal(case_of(step_fields=("actions", "rewards"))).startswith("step_fields: no field 'rewards'")
    assert "reward: 'cost' is not one of the step fields" in refusal(case_of(reward="cost"))
    foreign = {"filled": without()["filled"], "terminated": without()["terminated"], "x": torch.zeros(7, 7)}
    line = refusal(case_of(batch=foreign))
    assert line.startswith("none of the case's frame_fields and step_fields is in the batch: it has filled")
    short = {**without("reward"), "reward": without()["reward"][:, :-1]}
    want = "step_fields: field 'reward' has shape (7, 6, 1), want (7, 7) + (...) like the flags"
    assert refusal(case_of(batch=short)).startswith(want)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mask": "attention"}, "field 'attention': missing; the batch has tokens, mask, counts, lengths"),
        ({"mask": "tokens"}, "field 'tokens': given shape (4, 5, 2), want (B, T)"),
        ({"mask": "mask", "step_mask": "lengths"}, "field 'lengths': given shape (4,), want (4, 5)"),
        ({"mask": "mask", "step_mask": "nothing"}, "field 'nothing': missing; the batch has tokens"),
        ({"lengths": "mask"}, "field 'mask': given shape (4, 5), want (B,), the length of each sequence"),
        ({"lengths": "n"}, "field 'n': missing, want (B,), the length of each sequence"),
        (
            {"lengths": "lengths", "frame_fields": (), "step_fields": ()},
            "no frame field and no step field is in the batch: name them in the case",
        ),
    ],
)
def test_sequences_that_do_not_say_what_is_real(options: dict[str, Any], line: str) -> None:
    batch = {
        "tokens": torch.ones(4, 5, 2),
        "mask": torch.ones(4, 5),
        "counts": torch.ones(4, 5, 1),
        "lengths": torch.tensor([5, 2, 3, 1]),
    }
    defaults = {"frame_fields": ("tokens",), "step_fields": (), "reward": None}
    assert refusal(case_of(mean, batch, **(defaults | options))).startswith(line)


def test_a_mask_with_a_last_axis_of_one_is_a_mask() -> None:
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [1]])
    batch = {"tokens": torch.randn(4, 5, 3), "mask": mask[..., None]}

    def loss(net: nn.Module, given: Batch) -> Tensor:
        mask = given["mask"][..., 0]
        values: Tensor = net(given["tokens"][mask])
        return values.square().sum() / mask.sum().clamp(min=1)

    options: dict[str, Any] = {"frame_fields": ("tokens",), "step_fields": (), "reward": None}
    for step_mask_too in ({}, {"step_mask": "mask"}):
        assert audit(case_of(loss, batch, mask="mask", **options, **step_mask_too)).findings == ()


def test_assert_no_leaks() -> None:
    assert_no_leaks(case_of(), quick=True)
    wrong = case_of(lambda net, b: errors_of(net, b).mean())
    with pytest.raises(AssertionError, match=r"padding: 1 more column changes the result; repair: loss = "):
        assert_no_leaks(wrong, quick=True)
    report: Report = audit(wrong, quick=True)
    with pytest.raises(AssertionError, match="padding: "):
        assert_no_leaks(report)
    assert_no_leaks(wrong, probes=["poison"], quick=True)  # not what was asked


def test_a_learner_that_fails_says_how() -> None:
    def call(learner: Any, batch: Any) -> None:
        raise RuntimeError("two\nlines")

    with pytest.raises(AuditError) as caught:
        audit_learner(network(), without(), call)
    assert str(caught.value).startswith(
        "the loss fails on the batch as it is: RuntimeError: two lines (test_errors.py"
    )


def test_hard_batches_need_six_steps_and_hold_every_case() -> None:
    small = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=5, obs_shape=(3,))
    with pytest.raises(ValueError, match="episode_limit: given 5, want at least 6, to hold every case"):
        hard_batch(small, 0)
    for n_agents in (1, 3):
        spec = EpisodeSpec.of(n_agents=n_agents, n_actions=2, episode_limit=6, obs_shape=(3,))
        for seed in range(20):
            net = network()

            def loss(batch: Batch, net: nn.Module = net) -> Tensor:
                values: Tensor = net(batch["obs"])
                return (values * batch["filled"][..., None]).mean()

            report = audit(Case(loss, hard_batch(spec, seed), net), probes=["purity"])
            alone = "an agent that left while others went on"
            assert report.missing_cases == ((alone,) if n_agents == 1 else ())
