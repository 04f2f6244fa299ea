"""Probe: every real step counts, and counts the same.

Made for masks that drop the terminal step, as `1 - terminated` does, for sums in place of means, and for
wrong denominators.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from endmark.audit.cells import Cell, cells_of, evenly, position, some_steps
from endmark.audit.compare import Change, Numbers, compare, is_additive, is_gradient
from endmark.audit.context import Audit
from endmark.audit.coupling import COUPLED
from endmark.audit.disturb import nudged
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.view import View

SWAPPED = 1e-4
"""A swap of rewards changes nothing if the gradient changes by less than this share of another swap's."""


def probe(audit: Audit) -> Iterator[Finding]:
    """Change the reward of single steps; repeat the batch; compare the batch with its halves."""
    yield from _steps_without_weight(audit)
    audit.require_deterministic()
    yield from _hidden_by_statistics(audit)
    yield from _repeated_batch(audit)
    yield from _denominator(audit)


def _steps_without_weight(audit: Audit) -> Iterator[Finding]:
    """Real steps whose reward changes no number."""
    view, reward = audit.view, audit.case.reward
    if reward is None or reward not in view.step_fields:
        return
    tried = some_steps(view, audit.budget)
    idle = [
        cell
        for cell in tried
        # Both up and down, since a loss may clip its rewards.
        if not any(audit.matters(nudged(view, reward, cell, sign)) for sign in (1, -1))
    ]
    if idle == tried:
        yield finding("weight: unused", f"the {reward} of no step changes the loss")
    elif idle:
        cells = tuple(position(view, cell) for cell in idle)
        reproducer = Reproducer(audit.seed, (cells[0][0],), cells[:1], (reward,))
        what = f"real steps carry no weight: a change of their {reward} changes nothing"
        yield finding("weight: nothing", what, (), Evidence((reward,), cells, reproducer))


def _hidden_by_statistics(audit: Audit) -> Iterator[Finding]:
    """Terminal steps without weight whose reward still moves a statistic of all rewards, and so the loss.

    Two of them swap their rewards: that changes no statistic. It must change the gradient, as it does for two
    other steps.
    """
    view, reward = audit.view, audit.case.reward
    if reward is None or reward not in view.step_fields or not view.terminal.any() or not audit.coupled:
        return
    before_end = view.terminal.roll(-1, -1)
    last, others = cells_of(before_end & view.steps), cells_of(view.steps & ~before_end)
    if min(len(last), len(others)) < 2:
        return
    usual = _change_by_swap(audit, reward, *evenly(others, 2))
    pairs = [(last[0], last[-1]), *([(last[1], last[-2])] if len(last) > 3 else [])]
    if usual > 0 and all(_change_by_swap(audit, reward, *pair) < SWAPPED * usual for pair in pairs):
        cells = tuple(position(view, cell) for cell in last)
        what = f"terminal steps carry no weight: their {reward} moves statistics alone"
        reproducer = Reproducer(audit.seed, tuple(dict.fromkeys(e for e, _ in cells[:2])), cells[:2])
        yield finding("weight: nothing", what, (), Evidence((reward,), cells, reproducer))


def _change_by_swap(audit: Audit, reward: str, a: Cell, b: Cell) -> float:
    """How much the gradient differs between a large reward at one and a small one at the other, and back."""
    real = audit.view.tensors[reward][audit.view.steps.to(audit.view.tensors[reward].device)].double()
    reach = 3 * float(real.max() - real.min()) + 1
    numbers = []
    for sign in (1, -1):
        tensor = audit.view.tensors[reward].clone()
        tensor[a], tensor[b] = float(real.mean()) + sign * reach, float(real.mean()) - sign * reach
        numbers.append(audit.evaluate(audit.view.with_tensors({reward: tensor})))
    return _gradient_change(*numbers)


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
    """Find a loss that is a mean over episodes, or over positions with data, in place of one over steps.

    The mean must fit the batch and its halves. By chance several may fit, where both halves have as many
    steps to an episode. So for episodes the weight of a step is measured too, and positions must fit alone.
    """
    view, gaps = audit.view, audit.gaps
    fit = {name for name, gap in gaps.items() if gap <= COUPLED}
    if not fit or fit & {"nothing", "steps"}:
        return
    changes = [Change("loss or gradient", min(gap for name, gap in gaps.items() if name not in fit))]
    if "episodes" in fit and _short_weighs_more(audit):
        yield finding("weight: episodes", "episodes weigh the same, whatever their length", changes)
    elif fit == {"frames"} and not (view.terminal.any() or view.cut.any()):
        yield finding("weight: positions", "the denominator counts positions that are not steps", changes)


def _short_weighs_more(audit: Audit) -> bool:
    """Whether a step of the shortest episode weighs more than one of the longest: measured, not guessed.

    A constant denominator, such as a fixed number of tokens, also grows with the number of episodes. So both
    episodes get the same first frame and step, and the change of the gradient by its reward, in the one and
    in the other, is compared. False where that cannot be measured.
    """
    view, reward = audit.view, audit.case.reward
    fields = (*view.frame_fields, *view.step_fields)
    if reward is None or reward not in view.step_fields:
        return False
    lengths = torch.zeros(view.n_episodes).index_add(
        0, view.episode[view.steps], view.steps[view.steps].float()
    )
    there = lengths.masked_fill(lengths == 0, torch.inf)
    short, long = (int(i) for i in (there.argmin(), lengths.argmax()))
    first = view.steps & (view.episode == short), view.steps & (view.episode == long)
    a, b = (cells_of(some)[0] for some in first)
    tensors = {name: view.tensors[name].clone() for name in fields}
    for tensor in tensors.values():
        tensor[a] = tensor[b]
    alike = view.with_tensors(tensors)
    before = audit.evaluate(alike)
    by = [_gradient_change(before, audit.evaluate(nudged(alike, reward, cell, 1))) for cell in (a, b)]
    ratio = float(lengths[long] / lengths[short])
    return min(by) > 0 and ratio > 1 and by[0] / by[1] > ratio**0.5


def _gradient_change(before: Numbers, after: Numbers) -> float:
    """The norm of the change of all gradients; of the loss if there are none."""
    names = [name for name in before if is_gradient(name) and name in after] or ["loss"]
    return float(torch.stack([(after[n].double() - before[n].double()).norm() for n in names]).norm())


def _twice(view: View) -> View:
    return view.select([*range(view.n_episodes)] * 2)
