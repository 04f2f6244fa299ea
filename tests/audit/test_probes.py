"""Each probe on a small loss with one bug that it alone should see, and what it is not run on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import CASES, PROBES, Case, Finding, Report, audit, hard_batch, report_text, reproduce
from endmark.audit.cells import some_steps
from endmark.audit.compare import compare, relative_change
from endmark.audit.draw import Style, draw
from endmark.audit.findings import SEVERITIES
from endmark.audit.measure import LossSubject
from endmark.audit.view import AuditError, view_of
from endmark.episodes import EpisodeBatch, EpisodeSpec, step_mask
from helpers import make_batch, make_spec, random_batch

Batch = Mapping[str, Tensor]
SPEC = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=7, obs_shape=(4,))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def hard(seed: int = 0, *, without: Sequence[str] = ()) -> dict[str, Tensor]:
    return {name: x for name, x in hard_batch(SPEC, seed).items() if name not in without}


def td_loss(
    batch: Batch,
    net: nn.Module,
    *,
    terminated: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Squared errors (B, T) of a team's TD(0) values, right unless told otherwise, and the real steps."""
    steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
    alive = batch["alive"] if "alive" in batch else torch.ones_like(batch["obs"][..., 0]).bool()
    obs = torch.where(alive[..., None], batch["obs"], 0.0)
    seen = torch.nan_to_num(obs, 0.0, 0.0, 0.0)
    value = torch.where(alive, net(seen)[..., 0], 0.0).sum(2) if values is None else values
    ends = (batch["terminated"] if terminated is None else terminated)[:, :-1, 0] != 0
    target = batch["reward"][:, :-1, 0] + torch.where(ends, 0.0, 0.9 * value[:, 1:].detach())
    return torch.where(steps, value[:, :-1] - target, 0.0).square(), steps


def right(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def case_of(loss: Callable[[Batch], Any], net: nn.Module, **options: Any) -> Case:
    return Case(loss, options.pop("batch", None) or hard(), net, **options)


def probes_of(report: Report) -> set[tuple[str, str]]:
    return {(finding.probe, finding.severity) for finding in report.findings}


def test_a_right_loss_has_no_finding_at_all() -> None:
    net = network()
    for seed in range(3):
        report = audit(case_of(right(net), net, batch=hard(seed)), seed=seed)
        assert report.findings == ()
        assert report.skipped == {"causality": "the loss returns no 'per_step' terms"}
        assert report.probes == tuple(PROBES)
        assert report.to_json()["clean"] is True


# --- one bug each ---


def nan_through_a_product(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return (errors.sum() + (batch["reward"][:, :-1, 0] * ~steps * 0.0).sum()) / steps.sum().clamp(min=1)

    return loss


def divided_by_the_padded_size(net: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda batch: td_loss(batch, net)[0].mean()


def last_steps_dropped(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        last = batch["terminated"][:, :-1, 0] != 0
        return torch.where(last, 0.0, errors).sum() / steps.sum().clamp(min=1)

    return loss


def mean_of_means(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return (errors.sum(1) / steps.sum(1).clamp(min=1)).mean()

    return loss


def nothing_terminates(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net, terminated=torch.zeros_like(batch["terminated"]))
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def everything_terminates(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        last = steps & ~nn.functional.pad(steps[:, 1:], (0, 1))
        errors, _ = td_loss(batch, net, terminated=nn.functional.pad(last, (0, 1))[..., None])
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def weighted_by_row(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        rows = 1 + torch.arange(len(errors))[:, None]
        return (errors * rows).sum() / (steps * rows).sum().clamp(min=1)

    return loss


def over_its_root(net: nn.Module) -> Callable[[Batch], Tensor]:
    """Episodes share a statistic over real steps."""

    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        mean = errors.sum() / steps.sum().clamp(min=1)
        return mean / (mean.detach() + 1).sqrt()

    return loss


def written_in_place(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        batch["filled"].float()  # a copy: no harm
        batch["obs"][0, 0] += 1
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def mean_over_nothing(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return errors.sum() / steps.sum()

    return loss


def the_dead_are_seen(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        padded = torch.where(nn.functional.pad(steps, (1, 0), value=True)[..., None, None], batch["obs"], 0.0)
        errors, steps = td_loss(batch, net, values=net(padded)[..., 0].sum(2))
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def summed(net: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda batch: td_loss(batch, net)[0].sum()


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


# --- poison ---


def test_a_metric_that_leaks_is_found_though_the_loss_does_not() -> None:
    net = network()

    def loss(batch: Batch) -> dict[str, Tensor]:
        return {"loss": right(net)(batch), "mean_reward": batch["reward"].mean()}

    report = audit(case_of(loss, net), probes=["poison"])
    assert {f.field for f in report.leaks} == {"reward"}
    assert {change.what for f in report.leaks for change in f.moved} == {"metric mean_reward"}


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
        if (batch["reward"][:, -1] > 2).any():
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


def test_a_loss_that_fails_on_other_padding_is_a_leak_that_says_how() -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        if batch["obs"][:, -1].abs().max() > 4:
            raise ZeroDivisionError("no such observation")
        return right(net)(batch)

    report = audit(case_of(loss, net), probes=["poison"])
    assert report.leaks
    assert all("fails" in str(finding.moved[0]) for finding in report.leaks)
    assert "ZeroDivisionError: no such observation (test_probes.py, line" in str(report.leaks[0].moved[0])


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


# --- the others ---


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


def test_what_draws_random_numbers_is_compared_where_shapes_stay() -> None:
    """Dropout falls otherwise on a batch of another shape: no leak, and not tried either."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    report = audit(case_of(right(net), net))
    assert report.findings == ()
    assert {*report.skipped} == {"padding", "weight", "company", "causality"}
    assert "dropout" in report.skipped["padding"]
    net.eval()
    assert {*audit(case_of(right(net), net)).skipped} == {"causality"}

    def leaks(batch: Batch) -> Tensor:
        return right(net)(batch) * (1 + batch["reward"].mean())

    net.train()
    assert {f.probe for f in audit(case_of(leaks, net)).leaks} == {"poison"}


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


# --- empty ---


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


# --- what is not there to be probed ---


def test_what_is_skipped_and_why() -> None:
    net = network()
    batch = hard(without=["alive"])
    report = audit(case_of(right(net), net, batch=batch))
    assert report.skipped["agents"] == "the batch has no 'alive'"
    nobody_leaves = hard() | {"alive": torch.ones_like(hard()["alive"])}
    report = audit(case_of(right(net), net, batch=nobody_leaves))
    assert report.skipped["agents"] == "no agent leaves an episode before its end"
    assert "an agent that left while others went on" in report.missing_cases
    without_reward = replace(case_of(right(net), net), step_fields=("actions",))
    report = audit(without_reward)
    assert report.skipped["weight of single steps"].startswith("no step field 'reward'")
    assert report.left_alone == ("reward",)


def test_missing_cases_are_those_that_the_batch_lacks() -> None:
    net = network()
    assert audit(case_of(right(net), net), probes=["purity"]).missing_cases == ()
    one = {name: x[:1] for name, x in hard().items()}
    missing = audit(case_of(right(net), net, batch=one), probes=["purity"]).missing_cases
    assert len(missing) >= 4
    assert {*missing} < {*CASES.values()}
    alike = {name: torch.cat([x, x]) for name, x in hard().items()}
    report = audit(case_of(right(net), net, batch=alike), probes=["purity"])
    assert report.missing_cases == (CASES["lengths differ"],)


def test_findings_say_where_what_and_why() -> None:
    net = network()
    report = audit(case_of(nothing_terminates(net), net), probes=["bootstrap"])
    finding = report.leaks[0]
    batch = hard()
    steps = step_mask(batch["filled"], batch["terminated"])[..., 0].sum(1).tolist()
    ended = (batch["terminated"] != 0).any(1)[:, 0].tolist()
    where = tuple((e, steps[e]) for e in range(len(steps)) if ended[e])
    assert finding.what == "'obs' after a terminal step matters"
    assert finding.cells == where
    assert finding.moved[0].what == "loss"
    assert 0 < finding.moved[0].by < 1
    assert "1 - terminated" in finding.repair
    assert len(finding.causes) == 3
    small = finding.reproducer
    assert small is not None
    assert (len(small.episodes), len(small.cells)) == (1, 1)
    assert str(small).startswith(f"episodes {list(small.episodes)} alone, disturbed at (episode")
    as_json = finding.to_json()
    assert as_json["reproducer"]["fields"] == ["obs"]
    assert as_json["cells"] == [list(cell) for cell in where]
    assert report_text(report) is not None


def test_reports_put_the_worst_first_and_every_severity_has_words() -> None:
    net = network()

    def loss(batch: Batch) -> Tensor:
        return (
            over_its_root(net)(batch) + divided_by_the_padded_size(net)(batch) + mean_over_nothing(net)(batch)
        )

    severities = [finding.severity for finding in audit(case_of(loss, net)).findings]
    assert severities == sorted(severities, key=list(SEVERITIES).index)
    assert severities[0] == "leak"
    assert len({*severities}) == 3


def test_a_finding_without_fields_has_no_batch_to_show() -> None:
    net = network()
    case = case_of(divided_by_the_padded_size(net), net)
    (finding,) = audit(case, probes=["padding"]).leaks
    with pytest.raises(AuditError, match="not about fields that were overwritten"):
        reproduce(case, finding)


# --- numbers ---


@pytest.mark.parametrize(
    ("before", "after", "least", "want"),
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
def test_relative_change(before: list[float], after: list[float], least: float, want: float) -> None:
    change = relative_change(torch.tensor(before), torch.tensor(after), least)
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


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("style", ["random", "other random", "zero"])
def test_what_is_drawn_is_like_what_is_there(dtype: torch.dtype, style: Style) -> None:
    real = torch.tensor([0, 1, 3, 4, 4]).to(dtype)
    drawn = [
        draw(torch.zeros(500, 2).to(dtype), real, style, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    ]
    assert drawn[0].dtype == dtype
    assert torch.equal(drawn[0], drawn[1])
    if style == "zero":
        assert not drawn[0].any()
    else:
        assert not torch.equal(drawn[0], drawn[2])
        if not dtype.is_floating_point:
            assert real.min() <= drawn[0].min() <= drawn[0].max() <= real.max()
        else:
            assert drawn[0].isfinite().all()
            assert drawn[0].abs().min() >= 1  # visibly away from the zeros of padding
            assert drawn[0].abs().max() > real.max()


def test_the_two_random_draws_differ_and_nan_is_nan() -> None:
    like, real = torch.zeros(20), torch.rand(5)
    one, other = (draw(like, real, s, torch.Generator().manual_seed(3)) for s in ("random", "other random"))
    assert not torch.equal(one, other)
    assert draw(like, real, "nan", torch.Generator()).isnan().all()
    assert draw(like, real, "inf", torch.Generator()).isinf().all()
    nothing = draw(
        torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), "random", torch.Generator()
    )
    assert nothing.shape == (3,)


# --- sequences, as language models have them ---


def tokens(seed: int = 0, *, lengths: Sequence[int] = (9, 7, 6, 5, 4)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(max(lengths))
    attention = times < torch.tensor(lengths)[:, None]
    prompt = times < 2
    return {
        "input_ids": torch.where(attention, torch.randint(1, 11, attention.shape, generator=generator), 0),
        "attention_mask": attention.long(),
        "completion_mask": (attention & ~prompt).long(),
        "lengths": torch.tensor(lengths),
        "advantages": torch.where(attention, torch.randn(attention.shape, generator=generator), 0.0),
    }


class Tiny(nn.Module):
    """A causal language model of one recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed, self.body, self.head = (
            nn.Embedding(11, 8),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 11),
        )

    def log_prob(self, batch: Batch) -> Tensor:
        """Of each token, given those before; 0 for the first."""
        ids = batch["input_ids"]
        logits = self.head(self.body(self.embed(ids[:, :-1]))[0]).log_softmax(2)
        return nn.functional.pad(logits.gather(2, ids[:, 1:, None]).squeeze(2), (1, 0))


TOKENS: dict[str, Any] = {
    "frame_fields": ("input_ids",),
    "step_fields": ("advantages",),
    "step_mask": "completion_mask",
    "reward": "advantages",
    "bootstraps": False,
}


@pytest.mark.parametrize("flags", [{"mask": "attention_mask"}, {"lengths": "lengths"}])
def test_a_token_loss_by_mask_and_by_lengths(flags: dict[str, str]) -> None:
    net = Tiny()

    def loss(batch: Batch, right: bool) -> dict[str, Tensor]:
        counts = batch["completion_mask"] != 0
        terms = -net.log_prob(batch) * torch.where(counts, batch["advantages"], 0.0)
        total = terms.sum() / (counts.sum().clamp(min=1) if right else counts.numel())
        return {"loss": total, "per_step": terms}

    options = {**TOKENS, **flags, "horizon": 0}
    report = audit(Case(lambda b: loss(b, True), tokens(), net, **options))
    assert report.findings == ()
    assert report.missing_cases == ()
    assert {*report.skipped} == {"bootstrap", "agents"}
    other = {"attention_mask", "lengths"} - {*flags.values()}
    assert {*report.left_alone} == other
    wrong = audit(Case(lambda b: loss(b, False), tokens(), net, **options))
    assert {f.probe for f in wrong.leaks} == {"padding"}


def test_advantages_of_the_prompt_are_frames_without_a_step() -> None:
    net = Tiny()

    def loss(batch: Batch) -> Tensor:
        counts = batch["attention_mask"] != 0
        terms = torch.where(counts, -net.log_prob(batch) * batch["advantages"], 0.0)
        return terms.sum() / (batch["completion_mask"] != 0).sum().clamp(min=1)

    report = audit(Case(loss, tokens(), net, mask="attention_mask", **TOKENS))
    assert [f.what for f in report.leaks] == ["'advantages' on frames without a step matters"]
    assert {t for _, t in report.leaks[0].cells} == {0, 1}


def test_what_is_no_tensor_is_handed_on() -> None:
    net = network()

    def loss(batch: Mapping[str, Any]) -> Tensor:
        assert batch["name"] == "run 3"
        return right(net)(batch)

    report = audit(Case(loss, {**hard(), "name": "run 3"}, net))  # type: ignore[dict-item]
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


def test_the_loss_is_asked_with_the_same_numbers_each_time() -> None:
    """Whatever the audit does, the global generators are afterwards where they were."""
    net = network()
    torch.manual_seed(4)
    want = torch.rand(3)
    torch.manual_seed(4)
    audit(case_of(right(net), net), quick=True)
    assert torch.equal(torch.rand(3), want)


def test_finding_is_hashable_data() -> None:
    net = network()
    finding: Finding = audit(case_of(nothing_terminates(net), net), probes=["bootstrap"], quick=True).leaks[0]
    assert finding == replace(finding)
    subject = LossSubject(case_of(right(net), net))
    assert subject.modules == [net]
