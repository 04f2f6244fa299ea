"""The smallest batch that still shows a finding."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from endmark.audit.findings import Reproducer
from endmark.audit.observe import Subject, moved
from endmark.audit.view import AuditError, View

Disturbance = Callable[[View, Tensor | None], View]
"""Disturb a view; the tensor, if it is given, says in which cells only."""

LOOKS = 24
"""At most so many times is the loss run to shrink one finding."""


def shrink(
    subject: Subject, view: View, disturb: Disturbance, region: Callable[[View], Tensor], seed: int
) -> Reproducer:
    """Leave out episodes while the finding stays, then cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loss that is given less than it is used to
        return _shrink(subject, view, disturb, region, seed)


def _shrink(
    subject: Subject, view: View, disturb: Disturbance, region: Callable[[View], Tensor], seed: int
) -> Reproducer:
    looks = 0

    def shows(episodes: list[int], cell: tuple[int, ...] | None = None) -> bool:
        nonlocal looks
        if looks >= LOOKS:
            return False
        looks += 1
        part = view.select(episodes)
        keep = None
        if cell is not None:
            keep = torch.zeros_like(region(part))
            keep[cell] = True
        try:
            return bool(moved(subject.observe(part), subject.observe(disturb(part, keep))))
        except (AuditError, ValueError, RuntimeError, IndexError):
            return False  # such a small batch is not for this loss

    episodes = list(range(view.n_episodes))
    alone = next((e for e in episodes if region(view.select([e])).any() and shows([e])), None)
    if alone is not None:
        episodes = [alone]
    else:
        for episode in list(episodes):
            fewer = [e for e in episodes if e != episode]
            if fewer and shows(fewer):
                episodes = fewer
    part = view.select(episodes)
    cells = [tuple(index) for index in region(part).nonzero().tolist()]
    single = next((cell for cell in cells[:LOOKS] if shows(episodes, cell)), None)
    kept = cells if single is None else [single]
    names = []
    for cell in kept:
        at = cell[: part.frames.ndim]
        names.append((episodes[int(part.episode[at])], int(part.time[at])))
    return Reproducer(seed, tuple(episodes), tuple(dict.fromkeys(names)))
