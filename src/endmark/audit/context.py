"""A running audit, as the probes use it: evaluate a changed batch, and collect the evidence of a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from endmark.audit import coupling
from endmark.audit.case import Case
from endmark.audit.cells import positions
from endmark.audit.compare import Change, Numbers, compare, is_additive, is_gradient, same
from endmark.audit.disturb import Overwrite
from endmark.audit.draw import Style
from endmark.audit.findings import Evidence
from endmark.audit.measure import Subject, in_a_line
from endmark.audit.regions import Region
from endmark.audit.shrink import fewest_episodes, shrink
from endmark.audit.view import PaddedView, View


class Unstable(Exception):
    """No other probe can run; the message says why."""


class Skip(Exception):
    """The probe does not apply to this batch; the message says why."""


@dataclass
class Audit:
    """A running audit.

    reference: the numbers of the batch as it is; a probe compares those of a changed batch with them.
    quick: try fewer single steps, and leave out the second of two similar trials.
    stochastic: the loss draws random numbers, so it draws others for a batch of another shape or order.
    swamping: masks of padding that swamp the loss; they are mended in `view`, see `repair`.
    phantom: the loss counts phantom steps, as the probe `poison` has found.
    """

    subject: Subject
    view: View
    reference: Numbers
    case: Case
    seed: int
    quick: bool
    stochastic: bool = False
    swamping: tuple[str, ...] = ()
    phantom: bool = False

    @property
    def budget(self) -> int:
        """The most steps that a probe tries one by one."""
        return 4 if self.quick else 24

    def evaluate(self, view: View) -> Numbers:
        """The numbers of a changed batch. Raises Skip if the loss fails on it."""
        try:
            return self.subject.measure(view).numbers
        except Exception as error:
            raise Skip(f"the loss fails on a changed batch: {in_a_line(error)}") from error

    def changes(self, view: View, before: Numbers | None = None) -> list[Change]:
        """The numbers that differ for a changed batch. It counts as a change if the loss fails.

        before: the numbers to compare with; those of the batch as it is by default.
        """
        try:
            return compare(before or self.reference, self.subject.measure(view).numbers)
        except Exception as error:
            return [Change(f"it fails: {in_a_line(error)}", float("inf"))]

    def matters(self, view: View) -> bool:
        """Whether a changed batch has another loss or gradient, by the last bit.

        Made for what must matter: beside a large gradient, a true effect may be less than a tolerance.
        Metrics and buffers do not count: a step that is logged is not learnt from. A failure counts.
        """
        try:
            numbers = self.subject.measure(view).numbers
        except Exception:
            return True
        names = {name for name in (*self.reference, *numbers) if is_additive(name)}
        return any(
            name not in numbers or name not in self.reference or not same(self.reference[name], numbers[name])
            for name in names
        )

    def swamped_by(self, fields: Sequence[str]) -> str:
        """More words for a finding about these fields, if they swamp the loss."""
        if not fields or not {*fields} & {*self.swamping}:
            return ""
        names = " and ".join(f"'{name}'" for name in self.swamping)
        return (
            f"; no action is legal in padding, which makes up nearly all of the gradient: the rest is judged "
            f"with {names} set to 1 there"
        )

    def require_deterministic(self) -> None:
        """Skip a probe that changes the batch's shape or order if the loss draws random numbers."""
        if self.stochastic:
            raise Skip(
                "the loss draws random numbers, and other ones for a batch of another shape or order: "
                "audit it without dropout (module.eval()) and other noise"
            )

    @cached_property
    def gaps(self) -> dict[str, float]:
        """For each mean that the loss may be, how badly it fits; see `coupling.gaps`."""
        return coupling.gaps(self.evaluate, self.view, self.reference)

    @cached_property
    def wider(self) -> tuple[PaddedView, Numbers] | None:
        """The batch with one more column of padding, and its numbers. None if it has no columns, or fails."""
        if not isinstance(self.view, PaddedView):
            return None
        view = self.view.widen(1)
        try:
            numbers = self.subject.measure(view).numbers
            # No clocks. A column with a phantom step may bring an optimiser step, whose gradients count.
            return view, {n: x for n, x in numbers.items() if n in self.reference or is_gradient(n)}
        except Exception:
            return None

    @property
    def coupled(self) -> bool:
        """Whether no mean fits: the episodes share something."""
        return min(self.gaps.values()) > coupling.COUPLED

    def overwrite(self, fields: Sequence[str], region: Region, style: Style) -> Overwrite:
        """A disturbance with the audit's seed."""
        return Overwrite(tuple(fields), region, style, self.seed)

    def evidence(self, overwrite: Overwrite) -> Evidence:
        """The place of a disturbance that changes a number, and the smallest batch where it does."""
        cells = positions(self.view, overwrite.region(self.view))
        return Evidence(overwrite.fields, cells, shrink(self.subject, self.view, overwrite))

    def fewest_episodes(
        self,
        change: Callable[[Any], View],
        counts: Callable[[str], bool] = lambda _: True,
        base: View | None = None,
        usable: Callable[[View], bool] = lambda _: True,
    ) -> Evidence:
        """The fewest episodes for which `change` changes a number that `counts`, by its name.

        base: the view that is changed; the batch as it is by default. usable: the parts that may be a result.
        """

        def shows(part: View) -> bool:
            return usable(part) and any(
                counts(c.what) for c in compare(self.evaluate(part), self.evaluate(change(part)))
            )

        return Evidence(reproducer=fewest_episodes(base or self.view, shows, self.seed))
