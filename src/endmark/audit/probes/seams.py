"""Probe: agents in another order give the same result at every number of columns, or at none.

Made for recurrent chunks of a flattened batch, (episode, agent, time), that run over the seam between two
agents. A loss may tell its agents apart, by mixing or by networks of their own: then their order matters
whatever the number of columns. It matters at some numbers and not at others only where something is cut by
columns: at a number that the length of a chunk divides, chunks end at the seams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from endmark.audit.compare import Change, compare, is_additive
from endmark.audit.context import Audit
from endmark.audit.findings import Evidence, Finding, Reproducer
from endmark.audit.kinds import finding
from endmark.audit.view import PaddedView

VISIBLE = 1e-3
"""The least change that is called one."""


def probe(audit: Audit) -> Iterator[Finding]:
    """Reverse the agents, with none to nine more columns; of two episodes if the loss tells agents apart."""
    view = audit.view
    if not isinstance(view, PaddedView) or audit.stochastic or (n_agents := _agents(view)) < 2:
        return
    changes = _changes(audit, view, n_agents)
    if changes == []:
        if audit.wider is not None and (changes := _changes(audit, audit.wider[0], n_agents)):
            yield _finding(audit, changes, range(view.n_episodes), 1)
        return
    longest = view.steps.sum(1).argsort(descending=True)[:2].tolist()
    part = view.select(sorted(longest))
    seen: list[tuple[int, list[Change]]] = []
    for columns in range(4 if audit.quick else 10):
        trial = _changes(audit, part.widen(columns) if columns else part, n_agents)
        if trial is None:
            return
        seen.append((columns, trial))
        if any(t for _, t in seen) and not all(t for _, t in seen):
            at, changes = next((c, t) for c, t in seen if t)
            yield _finding(audit, changes, sorted(longest), at)
            return


def _finding(audit: Audit, changes: list[Change], episodes: object, columns: int) -> Finding:
    more = f", with {columns} more column{'s' * (columns > 1)}" if columns else ""
    what = f"the same agents in another order give another result{more}; not at every number of columns"
    assert isinstance(episodes, (list, range))
    return finding("seams", what, changes, Evidence(reproducer=Reproducer(audit.seed, tuple(episodes), ())))


def _changes(audit: Audit, view: PaddedView, n_agents: int) -> list[Change] | None:
    """What changes when the agents are reversed; None if that cannot be told, or hardly changes anything."""
    try:
        runs = [audit.subject.measure(some).numbers for some in (view, _reversed(view, n_agents))]
    except Exception:
        return None
    changes = [change for change in compare(*runs) if is_additive(change.what)]
    return None if changes and max(change.by for change in changes) < VISIBLE else changes


def _agents(view: PaddedView) -> int:
    """How many agents the third axis of the fields has; 0 if it has none that all per-agent fields share."""
    if view.alive is not None:
        return view.alive.shape[-1]
    own = [view.tensors[name].shape[2] for name in _fields(view) if view.tensors[name].ndim > 3]
    return own[0] if len(own) > 1 and len({*own}) == 1 else 0


def _fields(view: PaddedView) -> tuple[str, ...]:
    return (*view.frame_fields, *view.step_fields)


def _reversed(view: PaddedView, n_agents: int) -> PaddedView:
    """The view with the agents in reverse in every field that has an axis for them."""
    tensors = {
        name: view.tensors[name].flip(2)
        for name in _fields(view)
        if view.tensors[name].ndim > 2 and view.tensors[name].shape[2] == n_agents
    }
    alive = None if view.alive is None else view.alive.flip(-1)
    return replace(view.with_tensors(tensors), alive=alive)
