"""The result of an audit: findings, each with its place, its likely causes and a reproducer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from endmark.audit.cells import Position
from endmark.audit.compare import Change
from endmark.audit.draw import Style

Severity = Literal["leak", "metric", "fragile", "coupling", "weighting", "advice"]
SEVERITIES: dict[Severity, str] = {
    "leak": "the loss is wrong on some batches",
    "metric": "a logged number is wrong on some batches; the loss and its gradients are right",
    "fragile": "right only while numbers stay finite and usual, or while batches keep their size",
    "coupling": "episodes share statistics of real steps; right if that is intended",
    "weighting": "a step of a short episode counts more; right if each episode is meant to count once",
    "advice": "no bug: the audit should be told more, or cannot tell whether this is meant",
}


@dataclass(frozen=True)
class Reproducer:
    """The smallest batch found that still shows a finding. `endmark.audit.reproduce` builds it.

    episodes: the episodes of the batch that it holds. cells: the (episode, t) that are overwritten.
    fields, style, seed: the fields that are overwritten there, the kind of values, and the generator's seed.
    """

    seed: int
    episodes: tuple[int, ...]
    cells: tuple[Position, ...]
    fields: tuple[str, ...] = ()
    style: Style = "random"

    def __str__(self) -> str:
        if not self.cells:
            return f"episodes {list(self.episodes)} alone; seed {self.seed}"
        cells = ", ".join(f"(episode {e}, t {t})" for e, t in self.cells[:4])
        more = f" and {len(self.cells) - 4} more" if len(self.cells) > 4 else ""
        return f"episodes {list(self.episodes)} alone, disturbed at {cells}{more}; seed {self.seed}"


@dataclass(frozen=True)
class Evidence:
    """Where a finding shows: the overwritten fields, the cells (episode, t), and a reproducer."""

    fields: tuple[str, ...] = ()
    cells: tuple[Position, ...] = ()
    reproducer: Reproducer | None = None


@dataclass(frozen=True)
class Finding:
    """One way in which the loss differs from a right one.

    what: a sentence. field, cells: the overwritten fields, and the (episode, t) where they were overwritten.
    moved: the numbers that changed. causes, repair: the likely bugs, and the repaired line.
    """

    probe: str
    severity: Severity
    what: str
    field: str | None = None
    cells: tuple[Position, ...] = ()
    moved: tuple[Change, ...] = ()
    causes: tuple[str, ...] = ()
    repair: str = ""
    reproducer: Reproducer | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "probe": self.probe,
            "severity": self.severity,
            "what": self.what,
            "field": self.field,
            "cells": [list(cell) for cell in self.cells],
            "moved": {m.what: m.by if math.isfinite(m.by) else None for m in self.moved},  # None: NaN or inf
            "causes": list(self.causes),
            "repair": self.repair,
            "reproducer": self.reproducer
            and {
                "seed": self.reproducer.seed,
                "episodes": list(self.reproducer.episodes),
                "cells": [list(cell) for cell in self.reproducer.cells],
                "fields": list(self.reproducer.fields),
                "style": self.reproducer.style,
            },
        }


@dataclass(frozen=True)
class Report:
    """The findings, and the limits of the audit. No finding is a test, not a proof.

    probes: the probes that were asked for. skipped: those that were not run, each with the reason.
    missing_cases: the cases of `CASES` that the batch does not contain.
    left_alone: the batch's fields that no probe disturbed, since the case names them in neither list.
    """

    findings: tuple[Finding, ...]
    probes: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    missing_cases: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings of severity `leak`: the loss is wrong."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "clean": not self.leaks,
            "findings": [finding.to_json() for finding in self.findings],
            "probes": list(self.probes),
            "skipped": dict(self.skipped),
            "missing_cases": list(self.missing_cases),
            "left_alone": list(self.left_alone),
        }
