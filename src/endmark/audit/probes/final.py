"""Step fields that matter on frames without a step: phantom steps, next actions, and plain leaks.

A final frame carries no step. Three things read step fields there. A mask that counts the final frame of an
episode that was cut early as a step: a phantom step. A bootstrap by the next action, as in SARSA: right, if
the batch holds that action. And masks of frames, shifted flags, statistics: leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from endmark.audit import regions
from endmark.audit.context import Audit
from endmark.audit.draw import Style
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import DRAWN, Culprit, culprits, matter, quoted
from endmark.audit.regions import Region


class FinalFrames(NamedTuple):
    """Findings about frames without a step: phantom steps, all others, and the fields that matter there."""

    phantom: list[Finding]
    others: list[Finding]
    fields: set[str]


_PARTS: dict[str, Region] = {
    "early": regions.phantom,
    "cut": regions.cut_at_last,
    "terminal": regions.after_terminal,
    "prompt": regions.prompt,
}


def final_frames(audit: Audit, styles: Sequence[Style]) -> FinalFrames:
    """Overwrite the step fields of all frames without a step; of each kind of them, where something moves."""
    innocent = list(audit.view.step_fields)
    found: list[Culprit] = []
    for style in styles:
        for culprit in culprits(audit, innocent, regions.without_step, style):
            innocent = [field for field in innocent if field not in culprit.fields]
            found.append(culprit)
    parts = {part: [c for one in found for c in _again(audit, one, part)] for part in _PARTS}
    moved = {part: {field for c in some for field in c.fields} for part, some in parts.items()}
    next_action = _next_actions(audit, moved)
    early = [c for c in parts["early"] if not {*c.fields} & (moved["terminal"] | next_action)]
    reward = audit.case.reward
    counted = not moved["terminal"] and any(
        reward not in audit.view.step_fields or reward in c.fields for c in early
    )
    phantom, others = [], []
    if counted:
        fields = tuple(dict.fromkeys(field for c in early for field in c.fields))
        overwrite = audit.overwrite(fields, regions.phantom, early[0].overwrite.style)
        what = f"the final frame of an episode that was cut early counts as a step: {matter(fields, 'there')}"
        what += audit.swamped_by(audit.swamping)
        phantom.append(
            finding("poison: phantom", what, audit.changes(overwrite(audit.view)), audit.evidence(overwrite))
        )
    explained = next_action | ({field for c in early for field in c.fields} if counted else set())
    for culprit in found:
        if not {*culprit.fields} <= explained:
            what = matter(culprit.fields, "on frames without a step")
            others.append(
                finding("poison: final frame", what, culprit.changes, audit.evidence(culprit.overwrite))
            )
        elif {*culprit.fields} <= next_action:
            what = (
                f"{quoted(culprit.fields)} on the final frame of a cut episode matters: by the next action?"
            )
            others.append(
                finding("poison: next action", what, culprit.changes, audit.evidence(culprit.overwrite))
            )
    return FinalFrames(phantom, others, {field for culprit in found for field in culprit.fields})


def _again(audit: Audit, culprit: Culprit, part: str) -> list[Culprit]:
    """The same disturbance on a part of the frames, if it moves something there."""
    region, whole = _PARTS[part], culprit.overwrite
    if not region(audit.view).any():
        return []
    for style in dict.fromkeys((whole.style, *DRAWN)):  # another action may happen to have the same value
        overwrite = audit.overwrite(whole.fields, region, style)
        if changes := audit.changes(overwrite(audit.view)):
            return [Culprit(overwrite, changes)]
    return []


def _next_actions(audit: Audit, moved: dict[str, set[str]]) -> set[str]:
    """Fields that matter only as the next action of an episode that was cut off does.

    A phantom step needs a column behind its frame, and reads the reward. So a field is a next action if it
    matters on a last column, or where the reward does not.
    """
    reward, view = audit.case.reward, audit.view
    if not audit.case.bootstraps:
        return set()
    fields = moved["cut"]
    if reward in view.step_fields and reward not in moved["early"]:
        fields = fields | moved["early"]
    return {field for field in fields if field != reward and field not in moved["terminal"] | moved["prompt"]}
