"""Probe: the observation, legal actions and action of an agent do not matter after it has left.

Made for per-agent masks that were dropped on the way to the loss. Rewards and stored values of agents that
have left may belong to a team's return: that is asked, and not called a leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from endmark.audit import regions
from endmark.audit.context import Audit, Skip
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import culprits, matter
from endmark.audit.rows import RowsView


def probe(audit: Audit) -> Iterator[Finding]:
    """Overwrite the fields with an axis for agents where an agent has left."""
    view = audit.view
    if view.alive is None:
        raise Skip("the batch has no 'alive'")
    if not (~view.alive & view.frames[..., None]).any():
        raise Skip("no agent leaves an episode before its end")
    n_agents = view.alive.shape[-1]
    # In rows, each agent has the team's rewards, and those after it left may count for its earlier steps.
    left_out = ("alive", audit.case.reward if isinstance(view, RowsView) else None)
    axis = view.frames.ndim
    for fields, region in [(view.frame_fields, regions.dead), (view.step_fields, regions.dead_steps)]:
        own = [
            field
            for field in fields
            if field not in left_out
            and view.tensors[field].ndim > axis
            and view.tensors[field].shape[axis] == n_agents > 1
        ]
        for culprit in culprits(audit, own, region, "random"):
            what = matter(culprit.fields, "of an agent that has left")
            kind = "agents: return" if all(map(partial(_of_a_return, audit), culprit.fields)) else "agents"
            yield finding(kind, what, culprit.changes, audit.evidence(culprit.overwrite))


def _of_a_return(audit: Audit, field: str) -> bool:
    """Whether a team's return may be made of it, by its name: of what the dead bring in, too."""
    words = ("reward", "value", "return", "advantage")
    return field == audit.case.reward or (
        field in audit.view.step_fields and any(word in field.lower() for word in words)
    )
