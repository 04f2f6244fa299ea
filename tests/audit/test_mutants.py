"""The audit flags every mutant by the right probe, and raises no false alarm on its twin.

Two seeds by default; `ENDMARK_AUDIT_SEEDS=50` (`make audit-rates`) is what the README's rates come from.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from endmark.audit import Case, Finding, Report, audit, reproduce
from endmark.audit.compare import compare
from endmark.audit.layout import view_of
from endmark.audit.measure import LossSubject
from support.mutants import MUTANTS, Mutant

SEEDS = range(int(os.environ.get("ENDMARK_AUDIT_SEEDS", "2")))

each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
tried: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _rates(request: pytest.FixtureRequest) -> Iterator[None]:
    tried.clear()
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(
            f"\naudit: {tried['flagged']} of {tried['mutants']} mutants flagged by a probe made for them, "
            f"{tried['by the first']} of them by the first; "
            f"{tried['false alarms']} false alarms on {tried['twins']} twins "
            f"({len(MUTANTS)} of each, {len(SEEDS)} seeds)"
        )


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(finding.probe, finding.severity) for finding in report.findings}


@functools.cache
def first_report(name: str, right: bool) -> Report:
    """Of seed 0, in full; and the caller's batch is what it was, whatever a mutant writes into."""
    case = next(mutant for mutant in MUTANTS if mutant.name == name).make(right, 0)
    assert isinstance(case.batch, dict)
    before = {field: x.clone() for field, x in case.batch.items()}
    report = audit(case, seed=0)
    assert all(same(x, case.batch[field]) for field, x in before.items())
    return report


def report_of(mutant: Mutant, right: bool, seed: int) -> Report:
    if seed == 0:
        return first_report(mutant.name, right)
    return audit(mutant.make(right, seed), seed=seed, quick=True)


@each_mutant
def test_the_mutant_is_flagged_and_its_twin_is_clean(mutant: Mutant) -> None:
    for seed in SEEDS:
        twin = report_of(mutant, True, seed)
        tried["twins"] += 1
        tried["false alarms"] += bool(twin.leaks)
        flagged = {probe for probe, _ in kinds(report_of(mutant, False, seed)) - kinds(twin)}
        tried["mutants"] += 1
        tried["flagged"] += bool(flagged & {*mutant.probes})
        tried["by the first"] += mutant.probes[0] in flagged
        assert twin.leaks == (), f"seed {seed}"
        assert flagged & {*mutant.probes}, f"seed {seed}: {mutant.bug} Flagged by {flagged or 'nothing'}"


@each_mutant
def test_what_the_twin_is_told_is_no_reason_for_an_alarm(mutant: Mutant) -> None:
    """Twins that normalise over the batch are coupled, networks that see padding fear NaN; nothing else.

    Some are asked whether what they do is meant: a bootstrap by the next action, a team's return of the dead.
    """
    report = first_report(mutant.name, True)
    told = {("company", "coupling"), ("poison", "fragile"), ("poison", "advice"), ("agents", "advice")}
    assert kinds(report) <= told
    assert [why for why in report.skipped.values() if "fails" in why] == []


@each_mutant
def test_reproducers_show_it(mutant: Mutant) -> None:
    report = first_report(mutant.name, False)
    by_overwriting = [
        f
        for f in report.findings
        if f.reproducer
        and f.reproducer.cells
        and (f.probe in ("poison", "agents") or "after a terminal step" in f.what)
    ]
    for finding in by_overwriting:
        small = finding.reproducer
        assert small is not None
        assert small.fields == tuple((finding.field or "").split(", "))
        assert {e for e, _ in small.cells} <= {*small.episodes}
        assert {*small.cells} <= {*finding.cells}
        assert differ(mutant.make(False, 0), finding), finding.what
    if mutant.probes[0] in ("poison", "agents"):
        assert by_overwriting


@each_mutant
def test_leaks_come_with_a_smallest_batch(mutant: Mutant) -> None:
    case = mutant.make(False, 0)
    for finding in first_report(mutant.name, False).leaks:
        if finding.probe == "purity" or "denominator counts positions" in finding.what:
            continue  # of any batch; of a batch and its halves
        small = finding.reproducer
        assert small is not None, finding.what
        assert 1 <= len(small.episodes) <= view_of(case).n_episodes
        if finding.probe in ("padding", "company"):  # which need nothing but these episodes
            part = view_of(case).select(small.episodes).to_batch()
            again = audit(replace(case, batch=part), probes=[finding.probe])
            assert finding.probe in {f.probe for f in again.leaks}, finding.what


def differ(case: Case, finding: Finding) -> bool:
    """Whether the loss tells the two batches of a reproducer apart, as a caller would see it."""
    plain, disturbed = reproduce(case, finding)
    assert finding.reproducer is not None
    names = [name for name in plain if not same(plain[name], disturbed[name])]
    assert {*names} <= {*finding.reproducer.fields}
    subject, view = LossSubject(case), view_of(case).select(finding.reproducer.episodes)
    runs = [subject.measure(view.with_tensors(batch)).numbers for batch in (plain, disturbed)]
    return names != [] and compare(*runs) != []


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def test_reproducers_are_small() -> None:
    """Most show on a single episode, in a single cell."""
    sizes = [
        (len(small.episodes), len(small.cells))
        for mutant in MUTANTS
        for finding in first_report(mutant.name, False).leaks
        if finding.probe == "poison" and (small := finding.reproducer)
    ]
    assert len(sizes) > 20
    assert sum(size == (1, 1) for size in sizes) / len(sizes) > 0.8
