"""What every probe needs: the batch, what the loss makes of it, and how to ask again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from endmark.audit.disturb import Disturbance, Region, where
from endmark.audit.draw import Style
from endmark.audit.findings import Finding, Severity
from endmark.audit.kinds import advice
from endmark.audit.measure import Moved, Observation, Subject, floors, in_a_line, moved, relative_change
from endmark.audit.shrink import fewest_episodes, shrink
from endmark.audit.view import View

COUPLED = 1e-3
"""A gap between a batch and its halves, relative, above which episodes share something."""


class Unstable(Exception):
    """No other probe can be run; the message says why."""


class Skip(Exception):
    """This probe has nothing to do on this batch; the message says why."""


@dataclass
class Audit:
    """What every probe needs.

    budget: how many steps are looked at one by one. quick: leave out second looks of the same kind.
    draws: whether the loss draws random numbers, so that a batch of another shape gets other ones.
    """

    subject: Subject
    view: View
    base: Observation
    seed: int
    reward: str | None
    bootstraps: bool
    horizon: int | None
    quick: bool
    draws: bool = False
    _gaps: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def budget(self) -> int:  # noqa: D102
        return 4 if self.quick else 24

    def generator(self) -> torch.Generator:
        """Always the same numbers."""
        return torch.Generator().manual_seed(self.seed)

    def observe(self, view: View) -> Observation:
        """What the loss makes of this instead of the batch; Skip if it fails."""
        try:
            return self.subject.look(view)[0]
        except Exception as error:
            raise Skip(f"the loss fails on a part of the batch or several: {in_a_line(error)}") from error

    def changes(self, view: View) -> list[Moved]:
        """What moves if the loss gets this instead of the batch; that it fails is a move, too."""
        try:
            return moved(self.base, self.subject.look(view)[0])
        except Exception as error:
            return [Moved(f"it fails: {in_a_line(error)}", float("inf"))]

    def differs(
        self, change: Callable[[Any], View], counts: Callable[[str], bool] = lambda _: True
    ) -> Callable[[View], bool]:
        """Whether a smaller batch, too, gives other numbers that count once it is changed."""

        def shows(part: View) -> bool:
            changes = moved(self.observe(part), self.observe(change(part)))
            return any(counts(moves.what) for moves in changes)

        return shows

    def needs_the_same_numbers(self) -> None:
        """Skip where a batch of another shape, or in another order, cannot be compared."""
        if self.draws:
            raise Skip(
                "the loss draws random numbers, which fall otherwise on a batch of another shape or order: "
                "audit without dropout (module.eval()) and other noise"
            )

    def gaps(self) -> dict[str, float]:
        """How far the batch's result is from that of its two halves, for each mean that it may be."""
        if not self._gaps:
            n = self.view.n_episodes
            parts = [self.view.select(half) for half in (range(n // 2), range(n // 2, n)) if len(half)]
            alone = [self.observe(part) for part in parts]
            self._gaps["nothing"] = _gap(self.base, alone, [1.0] * len(parts), 1.0)
            for name, count in _counts(self.view).items():
                weights = [count(part) for part in parts]
                self._gaps[name] = _gap(self.base, alone, weights, sum(weights))
        return self._gaps

    def coupled(self) -> bool:
        """Whether no mean makes the batch of its halves: episodes share something."""
        return min(self.gaps().values()) > COUPLED

    def finding(
        self,
        probe: str,
        severity: Severity,
        what: str,
        changes: list[Moved],
        *,
        topic: str,
        fields: tuple[str, ...] = (),
        region: Region | None = None,
        disturb: Disturbance | None = None,
        style: Style = "random",
        shows: Callable[[View], bool] | None = None,
    ) -> Finding:
        """A finding with its cells, its likely causes, and the smallest batch that shows it.

        disturb, region: of a finding about cells. shows: of another, whether a smaller batch shows it too.
        """
        causes, repair = advice(topic)
        cells = where(self.view, region(self.view)) if region else ()
        reproducer = None
        if disturb and region:
            small = shrink(self.subject, self.view, disturb, region, self.seed)
            reproducer = dataclasses.replace(small, fields=fields, style=style)
        elif shows:
            reproducer = fewest_episodes(self.view, shows, self.seed)
        field = ", ".join(fields) or None
        return Finding(probe, severity, what, field, cells, tuple(changes[:6]), causes, repair, reproducer)


def adds(name: str) -> bool:
    """Whether this is a sum or a mean over the batch's steps, as the loss is."""
    return name == "loss" or name.startswith("gradient of")


def _counts(view: View) -> dict[str, Callable[[View], float]]:
    """What a mean over the batch may divide by."""
    counts: dict[str, Callable[[View], float]] = {
        "steps": lambda part: float(part.steps.sum()),
        "episodes": lambda part: float(part.n_episodes),
        "frames": lambda part: float(part.frames.sum()),
        "steps but the first": lambda part: float(part.steps.sum() - part.n_episodes),
    }
    if view.alive is not None:
        counts["steps and agents"] = lambda part: float((part.alive & part.steps[..., None]).sum())  # type: ignore[operator]
    return counts


def _gap(whole: Observation, parts: list[Observation], weights: list[float], total: float) -> float:
    """How far the whole's loss and gradients are from the parts' weighted sum over `total`, relatively."""
    gap, least = 0.0, floors(whole)
    for name, value in whole.items():
        if adds(name):
            zero = torch.zeros_like(value)
            added = sum((part.get(name, zero) * w for part, w in zip(parts, weights, strict=True)), zero)
            gap = max(gap, relative_change(value, added / max(total, 1.0), least(name)))
    return gap
