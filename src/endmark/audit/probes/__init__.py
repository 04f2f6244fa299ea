"""The probes: each disturbs one thing that must not matter (or must), and yields a finding for what moved.

A probe takes the `Audit` and yields `Finding`s; `PROBES` names them, and its order is that of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit import disturb as regions
from endmark.audit.context import COUPLED, Audit, Skip, Unstable, adds
from endmark.audit.disturb import (
    Cell,
    Disturbance,
    Region,
    as_cells,
    evenly,
    named,
    nudged,
    overwrite,
    overwritten,
    spread,
    where,
)
from endmark.audit.draw import Style
from endmark.audit.findings import Finding, Reproducer
from endmark.audit.kinds import advice
from endmark.audit.measure import (
    SMALL,
    Moved,
    Subject,
    in_a_line,
    moved,
    other_numbers,
    relative_change,
    tolerance,
)
from endmark.audit.shrink import smallest
from endmark.audit.view import AuditError, PaddedView, View

__all__ = ["PROBES", "not_finite"]

_DRAWN: tuple[Style, ...] = ("random", "other random")
_NAN: tuple[Style, ...] = ("nan", "inf")


def poison(audit: Audit) -> Iterator[Finding]:
    """Padding, frames after a terminal step, and the step fields of final frames hold other values.

    Made for losses that mask too late, too little, or not at all: `.mean()` over padded tensors, statistics
    over padding, a phantom step. Finite values first, all zeros among them (no legal action!); where these
    move nothing, NaN and inf, which masks by multiplication let through.
    """
    view = audit.view
    everything = (*view.frame_fields, *view.step_fields)
    places: list[tuple[str, str, Region, tuple[str, ...]]] = [
        ("padding", "in padding", regions.padding, everything),
        ("after the end", "after the end", regions.stale, everything),
        ("final frame", "on frames without a step", regions.uncounted, view.step_fields),
    ]
    for topic, words, region, fields in places:
        if not region(view).any():
            continue
        innocent = list(fields)
        for style in _styles(audit.quick):
            for culprits, changes, disturb in _culprits(audit, innocent, region, style):
                innocent = [field for field in innocent if field not in culprits]
                names, broken = _quoted(culprits), style in _NAN
                matter = f"{words} matter{'s' * (len(culprits) == 1)}"
                yield audit.finding(
                    "poison",
                    "fragile" if broken else "leak",
                    f"{style} in {names} {words} gets through, though other values do not"
                    if broken
                    else f"{names} {matter}",
                    changes,
                    topic="poison: nan" if broken else f"poison: {topic}",
                    fields=culprits,
                    region=region,
                    disturb=disturb,
                    style=style,
                )


def not_finite(subject: Subject, view: View, seed: int) -> Finding | None:
    """For a loss that is NaN on the batch as it is: the field that makes it so where nothing is real."""
    for region in (regions.padding, regions.stale, regions.uncounted):
        fields = view.step_fields if region is regions.uncounted else (*view.frame_fields, *view.step_fields)
        for field in fields if region(view).any() else ():
            mended = overwrite([field], region, "random", seed)(view, None)
            if all(value.isfinite().all() for name, value in subject.look(mended)[0].items() if adds(name)):
                causes, repair = advice("poison: nan")
                what = f"the loss is not finite, because of '{field}' where nothing is real"
                return Finding("poison", "leak", what, field, where(view, region(view)), (), causes, repair)
    return None


def _styles(quick: bool) -> tuple[Style, ...]:
    return ("random", "zero", "nan") if quick else (*_DRAWN, "zero", *_NAN)


def _culprits(
    audit: Audit, fields: Sequence[str], region: Region, style: Style
) -> Iterator[tuple[tuple[str, ...], list[Moved], Disturbance]]:
    """Each field that matters in the region; or all of them, if they matter together only.

    One look at all of them together is enough where nothing leaks.
    """
    if style in _NAN:
        fields = [field for field in fields if audit.view.tensors[field].is_floating_point()]
    if not fields or not region(audit.view).any():
        return
    together = overwrite(fields, region, style, audit.seed)
    changes = audit.changes(together(audit.view, None))
    if not changes:
        return
    alone = False
    for field in fields if len(fields) > 1 else ():
        disturb = overwrite([field], region, style, audit.seed)
        if own := audit.changes(disturb(audit.view, None)):
            alone = True
            yield (field,), own, disturb
    if not alone:
        if len(fields) > 2:

            def matter(some: list[str]) -> bool:
                return bool(audit.changes(overwrite(some, region, style, audit.seed)(audit.view, None)))

            fields = smallest(list(fields), matter)
            together = overwrite(fields, region, style, audit.seed)
            changes = audit.changes(together(audit.view, None))
        yield tuple(fields), changes, together


def padding(audit: Audit) -> Iterator[Finding]:
    """The same episodes with more columns of padding, empty or not.

    Made for denominators that count padded cells, and for recursions and hidden states that start in or
    are read at the last column.
    """
    view = audit.view
    if not isinstance(view, PaddedView):
        raise Skip("an EpisodeBatch has no padding")
    audit.needs_the_same_numbers()
    for columns in (1, 5):
        wider = partial(PaddedView.widen, columns=columns)
        if changes := audit.changes(wider(view)):
            what = f"{columns} more column{'s change' if columns > 1 else ' changes'} the result"
            shows = audit.differs(wider)
            yield audit.finding("padding", "leak", what, changes, topic="padding", shows=shows)
            return


def weight(audit: Audit) -> Iterator[Finding]:
    """Every real step counts, the terminal one included, and the batch twice over gives the same loss.

    Made for masks that drop the terminal step, as `1 - terminated` does, and for sums that call themselves
    means.
    """
    view, reward = audit.view, audit.reward
    if reward is not None and reward in view.step_fields:
        dead = [
            cell
            for cell in spread(view, audit.budget)
            # Both ways, as rewards are clipped here and there.
            if not any(audit.changes(nudged(view, reward, cell, sign)) for sign in (1, -1))
        ]
        if dead:
            causes, repair = advice("weight: nothing")
            cells = tuple(named(view, cell) for cell in dead)
            what = f"real steps that carry no weight: their {reward} moves nothing"
            reproducer = Reproducer(audit.seed, (cells[0][0],), cells[:1], (reward,))
            yield Finding("weight", "leak", what, reward, cells, (), causes, repair, reproducer)
    audit.needs_the_same_numbers()
    twice = audit.observe(_twice(view))
    if changes := [change for change in moved(audit.base, twice) if adds(change.what)]:
        double = {name: 2 * value for name, value in audit.base.items()}
        if not any(adds(change.what) for change in moved(double, twice)):
            what = "the loss is a sum: the same batch twice over gives twice the loss"
            yield audit.finding("weight", "fragile", what, changes, topic="weight: sum")
        elif not audit.coupled():  # else `company` tells: the n - 1 of a standard deviation does this
            what = "the batch twice over gives another loss"
            shows = audit.differs(_twice, adds)
            yield audit.finding("weight", "leak", what, changes, topic="weight: twice", shows=shows)
    gaps = audit.gaps()
    best = min(gaps, key=gaps.__getitem__)
    others = min(gap for name, gap in gaps.items() if name != best)
    if audit.coupled() or others <= COUPLED:
        return
    changes = [Moved("loss or gradient", others)]
    if best == "episodes":
        what = "episodes weigh the same, whatever their length"
        yield audit.finding("weight", "weighting", what, changes, topic="weight: episodes")
    elif best == "frames" and not (view.terminal.any() or view.cut.any()):
        what = "the denominator counts positions that are no steps"
        yield audit.finding("weight", "leak", what, changes, topic="weight: positions")


def bootstrap(audit: Audit) -> Iterator[Finding]:
    """What is seen after a terminal step does not matter; what is seen after a truncated end does.

    Made for terminated and truncated merged into one `done`, in either direction.
    """
    view = audit.view
    if not bool(view.terminal.any() | view.cut.any()):
        raise Skip("no episode's final frame is in the batch")
    fields = [name for name in view.frame_fields if name != "alive"]
    innocent = list(fields)
    styles: tuple[Style, ...] = ("random", "zero")  # zero: no legal action, so a maximum over nothing
    for style in styles:
        for culprits, changes, disturb in _culprits(audit, innocent, regions.after_terminal, style):
            innocent = [field for field in innocent if field not in culprits]
            what = f"{_quoted(culprits)} after a terminal step matter{'s' * (len(culprits) == 1)}"
            yield audit.finding("bootstrap", "leak", what, changes, topic="bootstrap: terminal", style=style,
                                fields=culprits, region=regions.after_terminal, disturb=disturb)  # fmt: skip
    if not audit.bootstraps or not fields:
        return
    deaf = [
        named(view, cell)
        for cell in evenly(as_cells(view.cut.nonzero()), audit.budget)
        # Twice, as two values may happen to be worth the same.
        if not any(
            audit.changes(overwritten(view, fields, _only(view.cut, cell), style, audit.seed))
            for style in _DRAWN
        )
    ]
    if deaf:
        causes, repair = advice("bootstrap: cut")
        what = "the frame after a truncated end does not matter: its value is not bootstrapped from"
        reproducer = Reproducer(audit.seed, (deaf[0][0],), (deaf[0],), tuple(fields))
        yield Finding("bootstrap", "leak", what, None, tuple(deaf), (), causes, repair, reproducer)


def company(audit: Audit) -> Iterator[Finding]:
    """An episode gives the same alone and in company, and the order of episodes does not matter.

    Made for hidden states, recursions and windows that reach over the seam between two episodes. Statistics
    over all real steps of the batch couple episodes by design; that is reported as coupling.
    """
    view = audit.view
    n = view.n_episodes
    if n < 2:
        raise Skip("there is one episode alone")
    audit.needs_the_same_numbers()
    shuffled = partial(_shuffled, seed=audit.seed)
    for other_order in (_reversed, shuffled)[: 1 if audit.quick else 2]:
        if changes := [change for change in audit.changes(other_order(view)) if _of_episodes(change.what)]:
            what = "the same episodes in another order give another result"
            shows = audit.differs(other_order, _of_episodes)
            yield audit.finding("company", "leak", what, changes, topic="company: order", shows=shows)
            return
    if audit.coupled():
        what = "an episode's share of the loss depends on its company: the batch shares statistics"
        changes = [Moved("loss or gradient", min(audit.gaps().values()))]
        yield audit.finding("company", "coupling", what, changes, topic="company: coupling")


def causality(audit: Audit) -> Iterator[Finding]:
    """A step's own term does not depend on frames after its horizon.

    For losses that return `per_step` and say how far a term may look, `Case(horizon=...)`. Made for attention
    without a causal mask and for windows that reach too far.
    """
    view = audit.view
    if "per_step" not in audit.base:
        raise Skip("the loss returns no 'per_step' terms")
    if audit.horizon is None:
        raise Skip("Case(horizon=...) does not say how far a step's term may look")
    terms, fields = _terms(view, audit.base["per_step"]), (*view.frame_fields, *view.step_fields)
    least = max(SMALL, 0.1 * float(terms[terms.isfinite()].abs().max()))

    def change(cell: Cell, later: Tensor, fields: Sequence[str]) -> float:
        disturbed = overwritten(view, fields, later, "random", audit.seed)
        after = _terms(view, audit.observe(disturbed)["per_step"])
        return relative_change(terms[cell], after[cell], least)

    for cell in evenly(_with_a_future(view, terms, audit.horizon), audit.budget):
        episode, t = named(view, cell)
        later = (view.episode == episode) & (view.time > t + audit.horizon) & view.frames
        by = change(cell, later, fields)
        if by > tolerance(terms):
            guilty = [field for field in fields if change(cell, later, [field]) > tolerance(terms)] or fields
            causes, repair = advice("causality")
            what = f"the term of step {t} depends on {_quoted(guilty)} after t = {t + audit.horizon}"
            cells = where(view, later)
            reproducer = Reproducer(audit.seed, (episode,), cells, tuple(guilty))
            yield Finding("causality", "leak", what, ", ".join(guilty), cells,
                          (Moved(f"per_step[{t}]", by),), causes, repair, reproducer)  # fmt: skip
            return


def _terms(view: View, per_step: Tensor) -> Tensor:
    """Terms by cell: (B, C) or, the last column apart, (B, C-1); of an `EpisodeBatch` (F,), NaN without."""
    cells = view.frames
    terms = per_step.flatten(cells.ndim).squeeze(-1) if per_step.ndim > cells.ndim else per_step
    if cells.ndim == 1 and terms.shape == (int(view.steps.sum()),):
        full = terms.new_full(cells.shape, torch.nan)
        full[view.steps.to(terms.device)] = terms
        return full
    if (
        terms.ndim == cells.ndim
        and terms.shape[0] == len(cells)
        and terms.shape[-1] - cells.shape[-1] in (0, -1)
    ):
        return terms
    want = f"{tuple(cells.shape)}, a term a cell, or one column less" if cells.ndim > 1 else "[S] or [F]"
    raise Skip(f"'per_step' has shape {tuple(per_step.shape)}: want {want}")


def _with_a_future(view: View, terms: Tensor, horizon: int) -> list[Cell]:
    """Real steps with a term, behind whose horizon their episode goes on."""
    last = torch.zeros(view.n_episodes, dtype=torch.int64)
    last = last.scatter_reduce(0, view.episode[view.frames], view.time[view.frames], "amax")
    there = view.steps & (last[view.episode] > view.time + horizon)
    if terms.shape != there.shape:
        there = there & functional.pad(torch.ones(terms.shape, dtype=torch.bool), (0, 1))
    return as_cells(there.nonzero())


def purity(audit: Audit) -> Iterator[Finding]:
    """The batch is bit for bit afterwards what it was, and a second look at it gives the same.

    Made for the in-place line on a float32 `filled`, of which `.float()` is no copy, and for what a loss
    remembers from one call to the next.
    """
    view = audit.view
    before = view.unpack(view.native())
    try:
        with other_numbers():
            other, after = audit.subject.look(view)
        differs = [name for name, value in audit.base.items() if not _same(value, other.get(name))]
        again = audit.subject.look(view)[0] if differs else other
    except Exception as error:
        what = "the loss fails the second time that it is given the same batch"
        changes = [Moved(f"it fails: {in_a_line(error)}", float("inf"))]
        yield audit.finding("purity", "leak", what, changes, topic="purity: twice")
        raise Unstable(f"{what}, so nothing else can be tried") from error
    for name, tensor in before.items():
        if name in after and not _same(tensor, after[name]):
            changes = [Moved(f"field {name}", relative_change(tensor, after[name]))]
            yield audit.finding("purity", "leak", f"the loss writes to '{name}'", changes, topic="purity")
    unsteady = [name for name, value in audit.base.items() if not _same(value, again.get(name))]
    if unsteady and all(name.startswith(("metric ", "attribute ")) for name in unsteady):
        changes = [Moved(name, relative_change(audit.base.pop(name), again[name])) for name in unsteady]
        if metrics := [change for change in changes if change.what.startswith("metric ")]:
            names = ", ".join(change.what for change in metrics)
            what = f"another number at every call, a clock it may be, so it is not compared: {names}"
            yield audit.finding("purity", "fragile", what, metrics, topic="purity: twice")
    if changes := moved(audit.base, again):
        what = "the same batch gives another result the second time"
        yield audit.finding("purity", "leak", what, changes, topic="purity: twice")
        raise Unstable(f"{what}, so nothing else can be compared")
    audit.draws = bool(moved(audit.base, other))


def empty(audit: Audit) -> Iterator[Finding]:
    """A batch of which nothing is real gives a finite loss without gradient, or a refusal that says so.

    Made for 0 / 0.
    """
    view = audit.view
    if not isinstance(view, PaddedView):
        raise Skip("an EpisodeBatch holds at least one step")
    try:
        seen, _ = audit.subject.look(view.emptied())
    except AuditError:
        return  # a loss without any gradient: nothing was counted
    except ValueError:
        return  # refused
    except Exception as error:
        what = f"a batch of which nothing is real ends in {in_a_line(error)}"
        yield audit.finding("empty", "fragile", what, [], topic="empty")
        return
    bad = [
        Moved(name, float("inf"))
        for name, value in seen.items()
        if not value.isfinite().all() and name in audit.base and audit.base[name].isfinite().all()
    ]
    bad += [
        Moved(name, float(value.abs().max()))
        for name, value in seen.items()
        if name.startswith("gradient") and value.isfinite().all() and value.any()
    ]
    if bad:
        what = "a batch of which nothing is real gives numbers that are not finite, or a gradient"
        yield audit.finding("empty", "fragile", what, bad, topic="empty")


def agents(audit: Audit) -> Iterator[Finding]:
    """What an agent sees, may do, or would do does not matter after it has left.

    Made for per-agent masks that were dropped on the way to the loss.
    """
    view = audit.view
    if view.alive is None:
        raise Skip("the batch has no 'alive'")
    if not (~view.alive & view.frames[..., None]).any():
        raise Skip("no agent leaves an episode before its end")
    n_agents = view.alive.shape[-1]
    axis = view.frames.ndim
    for fields, region in [(view.frame_fields, regions.dead), (view.step_fields, regions.dead_steps)]:
        own = [
            field
            for field in fields
            if field != "alive"
            and view.tensors[field].ndim > axis
            and view.tensors[field].shape[axis] == n_agents > 1
        ]
        for culprits, changes, disturb in _culprits(audit, own, region, "random"):
            what = f"{_quoted(culprits)} of an agent that has left matter{'s' * (len(culprits) == 1)}"
            yield audit.finding("agents", "leak", what, changes, topic="agents",
                                fields=culprits, region=region, disturb=disturb)  # fmt: skip


PROBES: dict[str, Callable[[Audit], Iterator[Finding]]] = {
    "purity": purity,
    "poison": poison,
    "padding": padding,
    "weight": weight,
    "bootstrap": bootstrap,
    "company": company,
    "causality": causality,
    "empty": empty,
    "agents": agents,
}


def _twice(view: View) -> View:
    return view.select([*range(view.n_episodes)] * 2)


def _reversed(view: View) -> View:
    return view.select([*reversed(range(view.n_episodes))])


def _shuffled(view: View, seed: int) -> View:
    return view.select(
        torch.randperm(view.n_episodes, generator=torch.Generator().manual_seed(seed)).tolist()
    )


def _of_episodes(what: str) -> bool:
    """Whether it does not depend on the order of episodes; a running statistic in a buffer may."""
    return not what.startswith("buffer")


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _only(cells: Tensor, cell: Cell) -> Tensor:
    only = torch.zeros_like(cells)
    only[cell] = True
    return only


def _same(a: Tensor, b: Tensor | None) -> bool:
    """Bit for bit, NaN being like NaN."""
    if b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
