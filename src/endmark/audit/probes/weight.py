"""Probe: every real step counts, and counts the same.

Made for masks that drop the terminal step, as `1 - terminated` does, for sums in place of means, and for
wrong denominators.
"""

from __future__ import annotations

from collections.abc import Iterator

from endmark.audit.cells import position, some_steps
from endmark.audit.compare import Change, compare, is_additive
from endmark.audit.context import Audit
from endmark.audit.coupling import COUPLED
from endmark.audit.disturb import nudged
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.view import View


def probe(audit: Audit) -> Iterator[Finding]:
    """Change the reward of single steps; repeat the batch; compare the batch with its halves."""
    yield from _steps_without_weight(audit)
    audit.require_deterministic()
    yield from _repeated_batch(audit)
    yield from _denominator(audit)


def _steps_without_weight(audit: Audit) -> Iterator[Finding]:
    """Real steps whose reward changes no number."""
    view, reward = audit.view, audit.case.reward
    if reward is None or reward not in view.step_fields:
        return
    idle = [
        cell
        for cell in some_steps(view, audit.budget)
        # Both up and down, since a loss may clip its rewards.
        if not any(audit.matters(nudged(view, reward, cell, sign)) for sign in (1, -1))
    ]
    if idle:
        cells = tuple(position(view, cell) for cell in idle)
        reproducer = Reproducer(audit.seed, (cells[0][0],), cells[:1], (reward,))
        what = f"real steps carry no weight: a change of their {reward} changes nothing"
        yield finding("weight: nothing", what, (), Evidence((reward,), cells, reproducer))


def _repeated_batch(audit: Audit) -> Iterator[Finding]:
    """Each episode twice must give the same loss; a sum gives twice the loss."""
    twice = audit.evaluate(_twice(audit.view))
    changes = [change for change in compare(audit.reference, twice) if is_additive(change.what)]
    if not changes:
        return
    double = {name: 2 * value for name, value in audit.reference.items()}
    if not any(is_additive(change.what) for change in compare(double, twice)):
        what = "the loss is a sum: each episode twice gives twice the loss"
        yield finding("weight: sum", what, changes)
    elif not audit.coupled:  # a coupled loss may divide by n - 1, and is reported by the probe `company`
        what = "each episode twice gives another loss"
        yield finding("weight: twice", what, changes, audit.fewest_episodes(_twice, is_additive))


def _denominator(audit: Audit) -> Iterator[Finding]:
    """The mean that fits the batch and its halves, if it is one and not a mean over steps."""
    view, gaps = audit.view, audit.gaps
    best = min(gaps, key=gaps.__getitem__)
    others = min(gap for name, gap in gaps.items() if name != best)
    if audit.coupled or others <= COUPLED:
        return
    changes = [Change("loss or gradient", others)]
    if best == "episodes":
        yield finding("weight: episodes", "episodes weigh the same, whatever their length", changes)
    elif best == "frames" and not (view.terminal.any() or view.cut.any()):
        yield finding("weight: positions", "the denominator counts positions that are not steps", changes)


def _twice(view: View) -> View:
    return view.select([*range(view.n_episodes)] * 2)
