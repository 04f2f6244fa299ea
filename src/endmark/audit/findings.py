"""What the audit found: which probe, where, what moved, the likely causes, and how to see it again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from endmark.audit.draw import Style
from endmark.audit.measure import Moved

Severity = Literal["leak", "fragile", "coupling", "weighting"]
SEVERITIES: dict[Severity, str] = {
    "leak": "the loss is wrong on some batches",
    "fragile": "right as long as numbers are finite, or as long as they are scaled as now",
    "coupling": "episodes share statistics over real steps; right if that is meant",
    "weighting": "a step of a short episode counts more; right if an episode is meant to be one term",
}


@dataclass(frozen=True)
class Reproducer:
    """The smallest batch found that still shows it: these episodes of the batch, these cells disturbed.

    `endmark.audit.reproduce` makes it. fields, style: what is overwritten, and with what.
    """

    seed: int
    episodes: tuple[int, ...]
    cells: tuple[tuple[int, int], ...]
    fields: tuple[str, ...] = ()
    style: Style = "random"

    def __str__(self) -> str:
        if not self.cells:
            return f"episodes {list(self.episodes)} alone; seed {self.seed}"
        cells = ", ".join(f"(episode {e}, t {t})" for e, t in self.cells[:4])
        more = f" and {len(self.cells) - 4} more" if len(self.cells) > 4 else ""
        return f"episodes {list(self.episodes)} alone, disturbed at {cells}{more}; seed {self.seed}"


@dataclass(frozen=True)
class Finding:
    """One thing that moved, or did not, against what a right loss does."""

    probe: str
    severity: Severity
    what: str
    field: str | None = None
    cells: tuple[tuple[int, int], ...] = ()
    moved: tuple[Moved, ...] = ()
    causes: tuple[str, ...] = ()
    repair: str = ""
    reproducer: Reproducer | None = None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
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
    """The findings, what was probed, which cases the batch did not contain, and which of its fields the case
    names neither as frame nor as step fields, so that they were left alone.

    No finding means that these probes on this batch moved nothing: a test, not a proof.
    """

    findings: tuple[Finding, ...]
    probes: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    missing_cases: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that make a loss wrong."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "clean": not self.leaks,
            "findings": [finding.to_json() for finding in self.findings],
            "probes": list(self.probes),
            "skipped": dict(self.skipped),
            "missing_cases": list(self.missing_cases),
            "left_alone": list(self.left_alone),
        }
