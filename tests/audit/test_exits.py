"""`sys.exit()` in the code under audit is an error or a leak, never an end as if all were well."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from endmark.audit import AuditError, Case, audit, audit_learner, audit_target, hard_batch
from endmark.episodes import EpisodeSpec

SPEC = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=6, obs_shape=(3,))


def case(exits: Callable[[int, Any], bool]) -> Case:
    """A mean of errors; it exits if that says so of the number of the call and the batch."""
    net, calls = nn.Linear(3, 1), iter(range(10**6))

    def loss(batch: Any) -> torch.Tensor:
        if exits(next(calls), batch):
            sys.exit(0)
        error = torch.where(batch["filled"] == 1, net(batch["obs"][:, :, 0]) - batch["reward"], 0.0).square()
        mean: torch.Tensor = error.sum() / batch["filled"].sum()
        return mean

    return Case(loss, hard_batch(SPEC, 0), net, bootstraps=False)


def test_a_loss_that_exits() -> None:
    said = r"^the loss fails on the batch as it is: Exited: sys\.exit\(0\) \(test_exits.py, line \d+\)$"
    with pytest.raises(AuditError, match=said):
        audit(case(lambda call, batch: call == 0))


@pytest.mark.parametrize(
    "exits",
    [lambda call, batch: call == 2, lambda call, batch: batch["obs"].shape[1] > 7],
    ids=["a later time", "more padding"],
)
def test_a_loss_that_exits_in_the_middle_of_the_audit(exits: Callable[[int, Any], bool]) -> None:
    """It is found, as one that raises: fragile, for a loss may refuse what it is given."""
    report = audit(case(exits), quick=True)
    assert any("Exited: sys.exit(0)" in str(change) for found in report.findings for change in found.moved)


def test_a_learner_that_exits() -> None:
    def call(learner: Any, batch: Any) -> None:
        sys.exit(0)

    with pytest.raises(AuditError, match=r"Exited: sys\.exit\(0\) \(test_exits.py, line \d+\)$"):
        audit_learner(nn.Linear(3, 1), dict(hard_batch(SPEC, 0)), call)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\nsys.exit(0)", r"'exits.py' cannot be run: Exited: sys.exit\(0\) "),
        ("\ndef case(): raise SystemExit", r"'exits.py:case' fails: Exited: sys.exit\(None\) "),
        ("\ndef case(): return lambda **_: exit(0)", r"the audit of 'exits.py:case' fails: Exited: "),
    ],
    ids=["module", "function", "audit"],
)
def test_a_target_that_exits(body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "exits", raising=False)
    (tmp_path / "exits.py").write_text(body)
    with pytest.raises(AuditError, match=f"^{said}"):
        audit_target("exits.py:case")
    (tmp_path / "exits_as_a_module.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AuditError, match=r"^'exits_as_a_module' cannot be imported: Exited: sys.exit\(0\)"):
        audit_target("exits_as_a_module:case")


def test_ctrl_c_passes() -> None:
    def loss(batch: Any) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(Case(loss, hard_batch(SPEC, 0)))
