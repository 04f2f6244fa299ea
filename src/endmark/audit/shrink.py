"""Shrink a finding to the smallest batch that still shows it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from endmark.audit import regions
from endmark.audit.case import Case
from endmark.audit.cells import Cell, cells_of, position
from endmark.audit.compare import Numbers, compare
from endmark.audit.disturb import Overwrite, overwritten
from endmark.audit.findings import Finding, Reproducer
from endmark.audit.layout import view_of
from endmark.audit.measure import Subject
from endmark.audit.view import AuditError, View

MAX_TRIALS = 24
"""The most subsets that are tried for one list of episodes, or of cells."""

Item = TypeVar("Item")


def reproduce(case: Case, finding: Finding) -> tuple[Any, Any]:
    """The smallest batch of a finding, as the loss takes it, and the same batch disturbed.

    A right loss gives the same numbers for both; other numbers, if the finding is that they do not differ.
    Raises AuditError if the finding is not about overwritten fields.
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
    return view.to_batch(), disturbed.to_batch()


def shrink(subject: Subject, view: View, overwrite: Overwrite) -> Reproducer:
    """Leave out episodes, and then cells, while the overwritten fields still change a number."""

    def changes(before: Numbers, disturbed: View) -> bool:
        return bool(compare(before, subject.measure(disturbed).numbers))

    def episodes_show(episodes: list[int]) -> bool:
        part = view.select(episodes)
        return bool(overwrite.region(part).any()) and changes(subject.measure(part).numbers, overwrite(part))

    def cells_show(cells: list[Cell]) -> bool:
        return changes(before, overwrite(part, _mask(cells, like=region)))

    with _no_warnings():
        episodes = small_subset(list(range(view.n_episodes)), episodes_show)
        part = view.select(episodes)
        before, region = subject.measure(part).numbers, overwrite.region(part)
        cells = small_subset(cells_of(region), cells_show)
    at = dict.fromkeys(position(part, cell) for cell in cells)
    named = tuple((episodes[e], t) for e, t in at)
    return Reproducer(overwrite.seed, tuple(episodes), named, overwrite.fields, overwrite.style)


def fewest_episodes(view: View, shows: Callable[[View], bool], seed: int) -> Reproducer:
    """Leave out episodes while `shows` still holds for the rest."""
    with _no_warnings():
        episodes = small_subset(list(range(view.n_episodes)), lambda some: shows(view.select(some)))
    return Reproducer(seed, tuple(episodes), ())


def small_subset(items: list[Item], shows: Callable[[list[Item]], bool]) -> list[Item]:
    """A small subset of the items for which `shows` holds, by delta debugging (Zeller and Hildebrandt 2002).

    A subset for which `shows` raises an error is passed over: a loss may not accept so small a batch.
    """
    trials, parts = 0, 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        starts = range(0, len(items), size)
        candidates = [items[i : i + size] for i in starts]
        if len(candidates) > 2:
            candidates += [items[:i] + items[i + size :] for i in starts]
        for fewer in candidates:
            trials += 1
            if trials > MAX_TRIALS:
                return items
            try:
                shown = shows(fewer)
            except Exception:
                shown = False
            if shown:
                items, parts = fewer, 2
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(items))
    return items


def _mask(cells: list[Cell], *, like: Tensor) -> Tensor:
    mask = torch.zeros_like(like)
    for cell in cells:
        mask[cell] = True
    return mask


@contextmanager
def _no_warnings() -> Iterator[None]:
    """A loss may warn of a batch that is smaller than usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
