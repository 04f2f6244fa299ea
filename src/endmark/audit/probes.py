"""The probes: each disturbs one thing that must not matter (or must), and yields a finding for what moved.

A probe takes the `Audit` and yields `Finding`s; `PROBES` names them, and its order is that of the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from endmark.audit.advice import advice
from endmark.audit.draw import Style, draw
from endmark.audit.findings import Finding, Reproducer, Severity
from endmark.audit.observe import (
    Moved,
    Observation,
    Subject,
    in_a_line,
    moved,
    relative_change,
    tolerance,
)
from endmark.audit.shrink import Disturbance, shrink
from endmark.audit.view import AuditError, PaddedView, View

Region = Callable[[View], Tensor]

COUPLED = 1e-3
"""A gap between a batch and its halves, relative, above which episodes share something."""


class Unstable(Exception):
    """No other probe can be run; the message says why."""


class Skip(Exception):
    """This probe has nothing to do on this batch; the message says why."""


@dataclass
class Audit:
    """What every probe needs.

    budget: how many steps the weight and causality probes look at, one by one.
    """

    subject: Subject
    view: View
    base: Observation
    seed: int
    reward: str | None
    bootstraps: bool
    horizon: int | None
    budget: int
    _gaps: dict[str, float] = dataclasses.field(default_factory=dict)

    def generator(self) -> torch.Generator:
        """Always the same numbers."""
        return torch.Generator().manual_seed(self.seed)

    def observe(self, view: View) -> Observation:
        """What the loss makes of this instead of the batch; Skip if it fails."""
        try:
            return self.subject.observe(view)
        except Exception as error:
            raise Skip(f"the loss fails on a part of the batch or several: {in_a_line(error)}") from error

    def changes(self, view: View) -> list[Moved]:
        """What moves if the loss gets this instead of the batch; that it fails is a move, too."""
        try:
            return moved(self.base, self.subject.observe(view))
        except Exception as error:
            return [Moved(f"it fails: {in_a_line(error)}", float("inf"))]

    def gaps(self) -> dict[str, float]:
        """How far the batch's result is from that of its two halves, for each mean that it may be."""
        if not self._gaps:
            n = self.view.n_episodes
            parts = [self.view.select(half) for half in (range(n // 2), range(n // 2, n)) if len(half)]
            alone = [self.observe(part) for part in parts]
            for name, count in _counts(self.view).items():
                self._gaps[name] = _gap(self.base, alone, [count(part) for part in parts])
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
        field: str | None = None,
        region: Region | None = None,
        disturb: Disturbance | None = None,
    ) -> Finding:
        """A finding with its cells, its likely causes, and the smallest batch that shows it."""
        causes, repair = advice(topic)
        cells = _where(self.view, region(self.view)) if region else ()
        reproducer = (
            shrink(self.subject, self.view, disturb, region, self.seed) if disturb and region else None
        )
        return Finding(probe, severity, what, field, cells, tuple(changes[:6]), causes, repair, reproducer)


def poison(audit: Audit) -> Iterator[Finding]:
    """Padding, frames after a terminal step, and the step fields of final frames hold other values.

    Made for losses that mask too late, too little, or not at all: `.mean()` over padded tensors, statistics
    over padding, a phantom step. Finite values first, all zeros among them (no legal action!); where these
    move nothing, NaN and inf, which masks by multiplication let through.
    """
    view = audit.view
    for field in (*view.frame_fields, *view.step_fields):
        regions: dict[str, Region] = {"padding": _padding, "after the end": _stale}
        if field in view.step_fields:
            regions["final frame"] = _uncounted
        for name, region in regions.items():
            if not region(view).any():
                continue
            finding = _poison_one(audit, field, name, region)
            if finding is not None:
                yield finding


def _poison_one(audit: Audit, field: str, name: str, region: Region) -> Finding | None:
    finite: list[Style] = ["random", "other random", "zero"]
    broken: list[Style] = ["nan", "inf"] if audit.view.tensors[field].is_floating_point() else []
    for style in finite + broken:
        disturb = _overwrite(field, region, style, audit.seed)
        changes = audit.changes(disturb(audit.view, None))
        if not changes:
            continue
        where = {"padding": "in padding", "after the end": "after the end", "final frame": "on final frames"}[
            name
        ]
        if style in broken:
            what = f"{style} in '{field}' {where} gets through, though other values do not"
            return audit.finding("poison", "fragile", what, changes, topic="poison: nan", field=field,
                                 region=region, disturb=disturb)  # fmt: skip
        what = f"'{field}' {where} matters"
        return audit.finding("poison", "leak", what, changes, topic=f"poison: {name}", field=field,
                             region=region, disturb=disturb)  # fmt: skip
    return None


def padding(audit: Audit) -> Iterator[Finding]:
    """The same episodes with more columns of padding, empty or not.

    Made for denominators that count padded cells, and for recursions and hidden states that start in or
    are read at the last column.
    """
    view = audit.view
    if not isinstance(view, PaddedView):
        raise Skip("an EpisodeBatch has no padding")
    for columns in (1, 5):
        changes = audit.changes(view.widen(columns))
        if changes:
            what = f"{columns} more column{'s' * (columns > 1)} of padding change the result"
            yield audit.finding("padding", "leak", what, changes, topic="padding")
            return


def weight(audit: Audit) -> Iterator[Finding]:
    """Every real step counts, the terminal one included, and the batch twice over gives the same loss.

    Made for masks that drop the terminal step, as `1 - terminated` does, and for sums that call themselves
    means.
    """
    view = audit.view
    if audit.reward is not None and audit.reward in view.step_fields:
        dead = [
            cell
            for cell in _spread(view, audit.budget)
            if not audit.changes(_nudged(view, audit.reward, cell))
        ]
        if dead:
            causes, repair = advice("weight: nothing")
            cells = tuple(_named(view, cell) for cell in dead)
            yield Finding(
                "weight", "leak", "real steps that carry no weight: their reward moves nothing", audit.reward,
                cells, (), causes, repair, Reproducer(audit.seed, (cells[0][0],), cells[:1]),
            )  # fmt: skip
    everyone = list(range(view.n_episodes))
    twice = audit.observe(view.select(everyone * 2))
    if changes := [change for change in moved(audit.base, twice) if _adds(change.what)]:
        double = {name: 2 * value for name, value in audit.base.items()}
        if not any(_adds(change.what) for change in moved(double, twice)):
            what = "the loss is a sum: the same batch twice over gives twice the loss"
            yield audit.finding("weight", "fragile", what, changes, topic="weight: sum")
        elif not audit.coupled():  # else `company` tells: the n - 1 of a standard deviation does this
            what = "the batch twice over gives another loss"
            yield audit.finding("weight", "leak", what, changes, topic="weight: twice")
    if not audit.coupled() and min(audit.gaps(), key=audit.gaps().__getitem__) == "episodes":
        others = [gap for name, gap in audit.gaps().items() if name != "episodes"]
        if min(others) > COUPLED:
            what = "episodes weigh the same, whatever their length"
            changes = [Moved("loss or gradient", min(others))]
            yield audit.finding("weight", "weighting", what, changes, topic="weight: episodes")


def bootstrap(audit: Audit) -> Iterator[Finding]:
    """What is seen after a terminal step does not matter; what is seen after a truncated end does.

    Made for terminated and truncated merged into one `done`, in either direction.
    """
    view = audit.view
    if not bool(view.terminal.any() | view.cut.any()):
        raise Skip("no episode's final frame is in the batch")
    fields = [name for name in view.frame_fields if name != "alive"]
    for field in fields:
        disturb = _overwrite(field, _terminal, "random", audit.seed)
        if view.terminal.any() and (changes := audit.changes(disturb(view, None))):
            yield audit.finding(
                "bootstrap", "leak", f"'{field}' after a terminal step matters", changes,
                topic="bootstrap: terminal", field=field, region=_terminal, disturb=disturb,
            )  # fmt: skip
    if not audit.bootstraps or not view.cut.any():
        return
    deaf = []
    for cell in _cells(view.cut)[: audit.budget]:
        only = torch.zeros_like(view.cut)
        only[cell] = True
        disturbed: View = view
        for field in fields:
            disturbed = _overwritten(disturbed, field, only, "random", audit.generator())
        if not audit.changes(disturbed):
            deaf.append(_named(view, cell))
    if deaf:
        causes, repair = advice("bootstrap: cut")
        what = "the frame after a truncated end does not matter: its value is not bootstrapped from"
        reproducer = Reproducer(audit.seed, (deaf[0][0],), (deaf[0],))
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
    orders = [list(reversed(range(n))), torch.randperm(n, generator=audit.generator()).tolist()]
    for order in orders:
        changes = [m for m in audit.changes(view.select(order)) if not m.what.startswith("buffer")]
        if changes:
            what = "the same episodes in another order give another result"
            yield audit.finding("company", "leak", what, changes, topic="company: order")
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
    terms = audit.base["per_step"].squeeze(-1) if audit.base["per_step"].ndim > 2 else audit.base["per_step"]
    for cell in _spread(view, audit.budget):
        episode, t = _named(view, cell)
        later = (view.episode == episode) & (view.time > t + audit.horizon) & view.frames
        if not later.any():
            continue
        for field in view.frame_fields:
            disturbed = _overwritten(view, field, later, "random", audit.generator())
            after = audit.observe(disturbed)["per_step"].reshape(terms.shape)
            change = relative_change(terms[cell], after[cell])
            if change > tolerance(terms):
                causes, repair = advice("causality")
                what = f"the term of step {t} depends on '{field}' after t = {t + audit.horizon}"
                cells = _where(view, later)
                yield Finding("causality", "leak", what, field, cells, (Moved(f"per_step[{t}]", change),),
                              causes, repair, Reproducer(audit.seed, (episode,), cells[:1]))  # fmt: skip
                return


def purity(audit: Audit) -> Iterator[Finding]:
    """The batch is bit for bit afterwards what it was, and a second look at it gives the same.

    Made for the in-place line on a float32 `filled`, of which `.float()` is no copy, and for what a loss
    remembers from one call to the next.
    """
    view = audit.view
    before = view.unpack(view.native())
    after = audit.subject.touched(view)
    for name, tensor in before.items():
        if name in after and not _same_bits(tensor, after[name]):
            changes = [Moved(f"field {name}", relative_change(tensor, after[name]))]
            yield audit.finding("purity", "leak", f"the loss writes to '{name}'", changes, topic="purity")
    if changes := audit.changes(view):
        what = "the same batch gives another result the second time"
        yield audit.finding("purity", "leak", what, changes, topic="purity: twice")
        raise Unstable(f"{what}, so nothing else can be compared")


def empty(audit: Audit) -> Iterator[Finding]:
    """A batch of which nothing is real gives a finite loss without gradient, or a refusal that says so.

    Made for 0 / 0.
    """
    view = audit.view
    if not isinstance(view, PaddedView):
        raise Skip("an EpisodeBatch holds at least one step")
    try:
        seen = audit.subject.observe(view.emptied())
    except AuditError:
        return  # a loss without any gradient: nothing was counted
    except ValueError:
        return  # refused
    except Exception as error:
        what = f"a batch of which nothing is real ends in {in_a_line(error)}"
        yield audit.finding("empty", "fragile", what, [], topic="empty")
        return
    bad = [
        Moved(name, float("inf")) for name in ("loss",) if name in seen and not seen[name].isfinite().all()
    ]
    bad += [
        Moved(name, float(value.abs().max()))
        for name, value in seen.items()
        if name.startswith("gradient") and not bool((value == 0).all())
    ]
    if bad:
        what = "a batch of which nothing is real gives a loss that is not finite, or a gradient"
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
    for field in (*view.frame_fields, *view.step_fields):
        tensor = view.tensors[field]
        cell_axes = view.frames.ndim
        if (
            field == "alive"
            or tensor.ndim <= cell_axes
            or tensor.shape[cell_axes] != n_agents
            or n_agents == 1
        ):
            continue
        region = _dead_steps if field in view.step_fields else _dead
        disturb = _overwrite(field, region, "random", audit.seed)
        if changes := audit.changes(disturb(view, None)):
            yield audit.finding(
                "agents", "leak", f"'{field}' of an agent that has left matters", changes,
                topic="agents", field=field, region=region, disturb=disturb,
            )  # fmt: skip


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


def _padding(view: View) -> Tensor:
    return ~view.frames & ~view.filled


def _stale(view: View) -> Tensor:
    return ~view.frames & view.filled


def _uncounted(view: View) -> Tensor:
    return view.frames & ~view.steps


def _terminal(view: View) -> Tensor:
    return view.terminal


def _dead(view: View) -> Tensor:
    assert view.alive is not None
    return ~view.alive & view.frames[..., None]


def _dead_steps(view: View) -> Tensor:
    assert view.alive is not None
    return ~view.alive & view.steps[..., None]


def _overwrite(field: str, region: Region, style: Style, seed: int) -> Disturbance:
    """A disturbance of the field in the region, or in some cells of it."""

    def disturb(view: View, keep: Tensor | None) -> View:
        cells = region(view) if keep is None else region(view) & keep
        return _overwritten(view, field, cells, style, torch.Generator().manual_seed(seed))

    return disturb


def _overwritten(view: View, field: str, cells: Tensor, style: Style, generator: torch.Generator) -> View:
    tensor = view.tensors[field].clone()
    cells = cells.to(tensor.device)
    values = draw(tensor, tensor[view.frames.to(tensor.device)], style, generator)
    tensor[cells] = values[cells]
    return view.with_tensors({field: tensor})


def _nudged(view: View, reward: str, cell: tuple[int, ...]) -> View:
    tensor = view.tensors[reward].clone()
    tensor[cell] += 1 + tensor[cell].abs()
    return view.with_tensors({reward: tensor})


def _spread(view: View, budget: int) -> list[tuple[int, ...]]:
    """Some real steps: every episode's last one first, then others, evenly."""
    steps = _cells(view.steps)
    last: dict[int, tuple[int, ...]] = {}
    for cell in steps:
        last[int(view.episode[cell])] = cell
    rest = [cell for cell in steps if last[int(view.episode[cell])] != cell]
    chosen = list(last.values())[:budget]
    room = budget - len(chosen)
    return chosen + rest[:: max(1, -(-len(rest) // room))] if room > 0 else chosen


def _counts(view: View) -> dict[str, Callable[[View], float]]:
    """What a mean over the batch may divide by."""
    counts: dict[str, Callable[[View], float]] = {
        "steps": lambda part: float(part.steps.sum()),
        "episodes": lambda part: float(part.n_episodes),
        "nothing": lambda _: 1.0,
        "steps but the first": lambda part: float(part.steps.sum() - part.n_episodes),
    }
    if view.terminal.any() or view.cut.any():
        counts["frames"] = lambda part: float(part.frames.sum())
    if view.alive is not None:
        counts["steps and agents"] = lambda part: float((part.alive & part.steps[..., None]).sum())  # type: ignore[operator]
    return counts


def _gap(whole: Observation, parts: list[Observation], weights: list[float]) -> float:
    """How far the whole's loss and gradients are from the parts' weighted mean (or sum), relatively."""
    total = 1.0 if weights == [1.0, 1.0] else sum(weights)
    gap = 0.0
    for name, value in whole.items():
        if _adds(name):
            zero = torch.zeros_like(value)
            added = sum((part.get(name, zero) * w for part, w in zip(parts, weights, strict=True)), zero)
            gap = max(gap, relative_change(value, added / total))
    return gap


def _adds(name: str) -> bool:
    """Whether this is a sum or a mean over the batch's steps, as the loss is."""
    return name == "loss" or name.startswith("gradient of")


def _cells(mask: Tensor) -> list[tuple[int, ...]]:
    return [tuple(index) for index in mask.nonzero().tolist()]


def _named(view: View, cell: tuple[int, ...]) -> tuple[int, int]:
    cell = cell[: view.frames.ndim]
    return int(view.episode[cell]), int(view.time[cell])


def _where(view: View, mask: Tensor) -> tuple[tuple[int, int], ...]:
    """(episode, t) of the cells, each once."""
    return tuple(dict.fromkeys(_named(view, cell) for cell in _cells(mask)))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
