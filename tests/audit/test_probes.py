"""Each probe on a small loss with one bug that it alone should find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import PROBES, Case, audit
from endmark.audit.cells import some_steps
from endmark.audit.layout import view_of
from support.helpers import random_batch
from support.mutants import MUTANTS
from support.td_losses import (
    Batch,
    case_of,
    divided_by_the_padded_size,
    everything_terminates,
    hard,
    last_steps_dropped,
    mean_of_means,
    mean_over_nothing,
    nan_through_a_product,
    network,
    nothing_terminates,
    over_its_root,
    probes_of,
    right,
    summed,
    td_loss,
    the_dead_are_seen,
    weighted_by_row,
    written_in_place,
)


def test_a_right_loss_has_no_finding_at_all() -> None:
    net = network()
    for seed in range(3):
        report = audit(case_of(right(net), net, batch=hard(seed)), seed=seed)
        assert report.findings == ()
        assert report.skipped == {"causality": "the loss returns no 'per_step' terms"}
        assert report.probes == tuple(name for name in PROBES if name != "reset")  # for several in a row
        assert report.to_json()["clean"] is True


@pytest.mark.parametrize(
    ("make", "probe", "severity"),
    [
        (nan_through_a_product, "poison", "fragile"),
        (divided_by_the_padded_size, "padding", "leak"),
        (last_steps_dropped, "weight", "leak"),
        (mean_of_means, "weight", "weighting"),
        (summed, "weight", "fragile"),
        (nothing_terminates, "bootstrap", "leak"),
        (everything_terminates, "bootstrap", "leak"),
        (weighted_by_row, "company", "leak"),
        (over_its_root, "company", "coupling"),
        (written_in_place, "purity", "leak"),
        (mean_over_nothing, "empty", "fragile"),
        (the_dead_are_seen, "agents", "leak"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_probe_that_was_made_for_it(
    make: Callable[[nn.Module], Callable[[Batch], Tensor]], probe: str, severity: str
) -> None:
    net = network()
    report = audit(case_of(make(net), net))
    assert (probe, severity) in probes_of(report)
    alone = audit(case_of(make(net), net), probes=[probe])
    assert (probe, severity) in probes_of(alone)
    assert alone.probes == tuple(dict.fromkeys(["purity", probe]))
    if severity == "leak" and make is not divided_by_the_padded_size:
        assert {f.probe for f in report.leaks} == {probe}
    elif severity != "leak":
        assert report.leaks == ()


@pytest.mark.parametrize("n_episodes", [2, 3])
def test_a_mean_of_means_is_told_from_coupling_with_few_episodes(n_episodes: int) -> None:
    net = network()
    rows = [0, 3, 4][:n_episodes]
    batch = {name: x[rows] for name, x in hard().items()}
    report = audit(case_of(mean_of_means(net), net, batch=batch), probes=["weight", "company"])
    assert probes_of(report) == {("weight", "weighting")}


def test_clipped_rewards_still_carry_weight() -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        return right(net)({**batch, "reward": batch["reward"].clamp(-0.1, 0.1)})

    assert audit(case_of(loss, net), probes=["weight"]).findings == ()


def test_steps_of_every_kind_are_looked_at_within_the_budget() -> None:
    view = view_of(Case(lambda _: torch.zeros(()), random_batch(0, n_episodes=40, limit=20)))
    last = {int(i) for i in ((view.batch.lengths + 1).cumsum(0) - 2)}  # type: ignore[union-attr]
    for budget in (4, 24, 5000):
        cells = some_steps(view, budget)
        assert len(cells) == len({*cells}) == min(budget, int(view.steps.sum()))
        assert all(bool(view.steps[cell]) for cell in cells)
        among = sum(cell[0] in last for cell in cells)
        assert among == min(len(last), -(-budget // 2))


def test_quick_asks_the_loss_less_often_and_finds_the_same_leaks() -> None:
    asked = {}
    for quick in (False, True):
        net, calls = network(), [0]

        def loss(batch: Batch, net: nn.Module = net, calls: list[int] = calls) -> Tensor:
            calls[0] += 1
            return nothing_terminates(net)(batch)

        report = audit(case_of(loss, net), quick=quick)
        assert probes_of(report) == {("bootstrap", "leak")}
        asked[quick] = calls[0]
    assert asked[True] < 0.7 * asked[False]


def test_coupling_by_order_is_a_leak_and_by_statistics_is_not() -> None:
    net = network()
    assert probes_of(audit(case_of(weighted_by_row(net), net), probes=["company"])) == {("company", "leak")}
    assert probes_of(audit(case_of(over_its_root(net), net), probes=["company"])) == {("company", "coupling")}


def test_one_episode_has_no_company() -> None:
    net = network()
    batch = {name: x[:1] for name, x in hard().items()}
    report = audit(case_of(right(net), net, batch=batch))
    assert report.leaks == ()
    assert report.skipped["company"] == "the batch has only one episode"


def test_what_draws_random_numbers_is_compared_where_shapes_stay() -> None:
    """Noise is pinned. A shuffle cannot be: what changes shapes is not tried then."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    assert {*audit(case_of(right(net), net)).skipped} == {"causality"}
    assert audit(case_of(right(net), net)).findings == ()

    def shuffled(batch: Batch) -> Tensor:
        return right(net)(batch) * (1 + torch.randperm(50)[0] / 100)

    report = audit(case_of(shuffled, net))
    assert report.findings == ()
    assert {*report.skipped} == {"padding", "weight", "company", "causality"}
    assert "dropout" in report.skipped["padding"]
    net.eval()
    assert {*audit(case_of(right(net), net)).skipped} == {"causality"}

    def leaks(batch: Batch) -> Tensor:
        return right(net)(batch) * (1 + batch["reward"].mean())

    net.train()
    assert {f.probe for f in audit(case_of(leaks, net)).leaks} == {"poison", "padding"}


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_metric_that_is_a_clock_is_told_and_not_compared() -> None:
    net, clock = network(), _Clock()

    def loss(batch: Batch) -> dict[str, Tensor]:
        return {"loss": right(net)(batch), "seconds": torch.tensor(clock())}

    report = audit(case_of(loss, net))
    assert probes_of(report) == {("purity", "fragile")}
    assert "not compared: metric seconds" in report.findings[0].what
    assert {*report.skipped} == {"causality"}


@pytest.mark.parametrize(
    "kind", ["finite", "NaN", "refused", "without gradient", "crash", "constant gradient"]
)
def test_an_empty_batch(kind: str) -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        if steps.any() or kind == "finite":
            return errors.sum() / steps.sum().clamp(min=1)
        if kind == "NaN":
            return errors.sum() / steps.sum()
        if kind == "without gradient":
            return torch.zeros(())
        if kind == "constant gradient":
            errors = torch.cat([errors.flatten(), net(torch.ones(4))])
            return errors.sum()
        raise (ValueError if kind == "refused" else KeyError)("no real step")

    report = audit(case_of(loss, net), probes=["empty"])
    if kind in ("finite", "refused", "without gradient"):
        assert report.findings == ()
    else:
        (finding,) = report.findings
        assert (finding.probe, finding.severity) == ("empty", "fragile")
        if kind != "crash":
            assert finding.causes == ("0 / 0: a mean over nothing",)
    if kind == "crash":
        assert "KeyError: 'no real step' (test_probes.py, line" in finding.what


def test_an_empty_batch_says_so_in_every_flag() -> None:
    """`to_padded` stores the mask and `truncated`, too: a loss may go by them."""
    net = network()

    def loss(batch: Batch) -> Tensor:
        errors = torch.where(batch["mask"][..., 0], td_loss(batch, net)[0], 0.0)
        assert bool(batch["truncated"].any()) == bool(batch["mask"].any())
        return errors.sum() / batch["mask"].sum().clamp(min=1)

    assert audit(case_of(loss, net)).findings == ()


def test_what_is_no_tensor_is_handed_on() -> None:
    net = network()

    def loss(batch: Mapping[str, Any]) -> Tensor:
        assert batch["name"] == "run 3"
        return right(net)(batch)

    report = audit(Case(loss, {**hard(), "name": "run 3"}, net))
    assert report.findings == ()


def test_the_loss_is_asked_with_the_same_numbers_each_time() -> None:
    """Whatever the audit does, the global generators are afterwards where they were."""
    net = network()
    torch.manual_seed(4)
    want = torch.rand(3)
    torch.manual_seed(4)
    audit(case_of(right(net), net), quick=True)
    assert torch.equal(torch.rand(3), want)


def test_a_mean_of_episodes_is_found_where_another_denominator_fits_too() -> None:
    """The halves of this batch hold episodes and steps, with the phantom ones, in the same proportion."""
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == "mean_of_episode_means"]
    report = audit(mutant.make(False, 40), seed=40, probes=["weight"])
    assert [finding.what for finding in report.findings if finding.probe == "weight"] == [
        "episodes weigh the same, whatever their length"
    ]
