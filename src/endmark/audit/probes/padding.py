"""Probe: the same episodes with more columns of padding give the same result.

Made for denominators that count padded cells, and for recursions and hidden states that start in the last
column or are read there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from endmark.audit.context import Audit, Skip
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.rows import RowsView
from endmark.audit.view import PaddedView

NO_PADDING = "the batch holds no padding: give one with episodes of different lengths, if there can be any"


def probe(audit: Audit) -> Iterator[Finding]:
    """Add one column, and then five."""
    view = audit.view
    if not isinstance(view, PaddedView) or isinstance(view, RowsView):
        raise Skip("the batch has no padding")
    if view.filled.all():
        raise Skip(NO_PADDING)
    audit.require_deterministic()
    # A phantom step appears with a column behind the longest episodes: the column comes first, then, if so.
    narrow, before = (audit.phantom and audit.wider) or (view, audit.reference)
    for columns in (1, 5):
        wider = partial(PaddedView.widen, columns=columns)
        if changes := audit.changes(wider(narrow), before):
            what = f"{columns} more column{'s change' if columns > 1 else ' changes'} the result"
            yield finding(
                "padding",
                what,
                changes,
                # The smallest batch must hold padding of its own, without the column that was added first.
                audit.fewest_episodes(
                    wider, base=narrow, usable=lambda part: not part.filled[:, : view.filled.shape[1]].all()
                ),
            )
            return
