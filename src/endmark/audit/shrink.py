"""The smallest batch that still shows a finding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from endmark.audit import disturb as regions
from endmark.audit.case import Case
from endmark.audit.disturb import Disturbance, Region, as_cells, named, overwritten
from endmark.audit.findings import Finding, Reproducer
from endmark.audit.measure import Observation, Subject, moved
from endmark.audit.view import AuditError, View, view_of

LOOKS = 24
"""So many times at most is a smaller batch tried, and then fewer cells, to shrink one finding."""

Item = TypeVar("Item")


def reproduce(case: Case, finding: Finding) -> tuple[Any, Any]:
    """The smallest batch of a finding, as the loss takes it, and the same disturbed.

    A right loss gives the same for both, unless what the finding says is that both give the same.
    AuditError if the finding is not about overwritten fields.
    """
    small = finding.reproducer
    if small is None or not small.fields:
        raise AuditError(f"'{finding.what}' is not about fields that were overwritten")
    view = view_of(case).select(small.episodes)
    cells = torch.zeros_like(view.frames)
    for episode, t in small.cells:
        cells |= (view.episode == small.episodes.index(episode)) & (view.time == t)
    if finding.probe == "agents":
        cells = regions.dead(view) & cells[..., None]
    disturbed = overwritten(view, small.fields, cells, small.style, small.seed)
    return view.native(), disturbed.native()


def shrink(subject: Subject, view: View, disturb: Disturbance, region: Region, seed: int) -> Reproducer:
    """Leave out episodes while the finding stays, then cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loss that is given less than it is used to
        return _shrink(subject, view, disturb, region, seed)


def fewest_episodes(view: View, shows: Callable[[View], bool], seed: int) -> Reproducer:
    """Leave out episodes while the finding stays, for one that is about no cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loss that is given less than it is used to
        episodes = smallest(list(range(view.n_episodes)), lambda some: shows(view.select(some)))
    return Reproducer(seed, tuple(episodes), ())


def _shrink(subject: Subject, view: View, disturb: Disturbance, region: Region, seed: int) -> Reproducer:
    def shows(some: list[int]) -> bool:
        part = view.select(some)
        return bool(region(part).any()) and _shows(subject, subject.look(part)[0], disturb(part, None))

    episodes = smallest(list(range(view.n_episodes)), shows)
    part = view.select(episodes)
    before = subject.look(part)[0]

    def kept(cells: list[tuple[int, ...]]) -> Tensor:
        keep = torch.zeros_like(region(part))
        for cell in cells:
            keep[cell] = True
        return keep

    cells = smallest(
        as_cells(region(part).nonzero()), lambda some: _shows(subject, before, disturb(part, kept(some)))
    )
    names = dict.fromkeys(named(part, cell) for cell in cells)
    return Reproducer(seed, tuple(episodes), tuple((episodes[e], t) for e, t in names))


def _shows(subject: Subject, before: Observation, disturbed: View) -> bool:
    return bool(moved(before, subject.look(disturbed)[0]))


def smallest(items: list[Item], shows: Callable[[list[Item]], bool]) -> list[Item]:
    """Few of the items that show it, by delta debugging (Zeller and Hildebrandt 2002)."""
    looks, parts = 0, 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        starts = range(0, len(items), size)
        candidates = [items[i : i + size] for i in starts]
        if len(candidates) > 2:
            candidates += [items[:i] + items[i + size :] for i in starts]
        for fewer in candidates:
            looks += 1
            if looks > LOOKS:
                return items
            try:
                shown = shows(fewer)
            except Exception:
                shown = False  # such a small batch is not for this loss
            if shown:
                items, parts = fewer, 2
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(items))
    return items
