"""What a report says: findings, skipped probes, missing cases, fields that were left alone."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import Tensor

from endmark.audit import CASES, Finding, Report, audit, report_text, reproduce
from endmark.audit.findings import SEVERITIES
from endmark.audit.measure import LossSubject
from endmark.audit.view import AuditError
from endmark.episodes import step_mask
from support.td_losses import (
    Batch,
    case_of,
    divided_by_the_padded_size,
    hard,
    mean_over_nothing,
    network,
    nothing_terminates,
    over_its_root,
    right,
)


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


def test_finding_is_hashable_data() -> None:
    net = network()
    finding: Finding = audit(case_of(nothing_terminates(net), net), probes=["bootstrap"], quick=True).leaks[0]
    assert finding == replace(finding)
    subject = LossSubject(case_of(right(net), net))
    assert subject.modules == [net]


def test_a_finding_of_every_severity_is_printed() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    findings = tuple(Finding("poison", severity, f"a {severity}") for severity in SEVERITIES)
    console.print(report_text(Report(findings, ("poison",))))
    text = console.export_text()
    assert all(f"{severity} [poison] a {severity}" in text for severity in SEVERITIES)
