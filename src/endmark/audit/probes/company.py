"""Probe: an episode gives the same alone and among others, in any order.

Made for hidden states, recursions and windows that reach over the seam between two episodes. Statistics of
all real steps also couple the episodes of a batch. They may be intended, so they are reported as coupling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from endmark.audit.compare import Change, Numbers
from endmark.audit.context import Audit, Skip
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.view import View


def probe(audit: Audit) -> Iterator[Finding]:
    """Reverse and shuffle the episodes; compare the batch with its halves."""
    view = audit.view
    if view.n_episodes < 2:
        raise Skip("the batch has only one episode")
    audit.require_deterministic()
    shuffled = partial(_shuffled, seed=audit.seed)
    # Once with another number of columns: chunks of a length that divides the first end at the seams.
    trials: list[tuple[View, Numbers, Callable[[View], View]]] = [(view, audit.reference, _reversed)]
    if not audit.quick:
        trials.append((*(audit.wider or (view, audit.reference)), shuffled))
    for base, before, reorder in trials:
        changes = [c for c in audit.changes(reorder(base), before) if _ignores_order(c.what)]
        if changes:
            what = "the same episodes in another order give another result"
            evidence = audit.fewest_episodes(reorder, _ignores_order, base)
            yield finding("company: order", what, changes, evidence)
            return
    if audit.coupled:
        what = "an episode's share of the loss depends on the other episodes: the batch shares statistics"
        yield finding("company: coupling", what, [Change("loss or gradient", min(audit.gaps.values()))])


def _reversed(view: View) -> View:
    return view.select([*reversed(range(view.n_episodes))])


def _shuffled(view: View, seed: int) -> View:
    generator = torch.Generator().manual_seed(seed)
    return view.select(torch.randperm(view.n_episodes, generator=generator).tolist())


def _ignores_order(name: str) -> bool:
    """Whether the number must not depend on the order; a running statistic in a buffer may."""
    return not name.startswith("buffer")
