"""Probe: padding, frames after the end, and step fields of frames without a step hold other values.

Made for losses that mask too late, too little, or not at all: `.mean()` over padded tensors, statistics over
padding, a phantom step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from endmark.audit import regions
from endmark.audit.context import Audit
from endmark.audit.draw import Style
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.probes.culprits import DRAWN, NOT_FINITE, culprits, matter, quoted
from endmark.audit.probes.final import final_frames
from endmark.audit.regions import Region

Place = tuple[str, Region, list[str]]
"""Where, in words; the region; the fields that finite values there have not shown to matter."""


def probe(audit: Audit) -> Iterator[Finding]:
    """Overwrite the fields with finite values, zeros among them (no legal action), and then with NaN and inf.

    NaN passes a mask by multiplication, and a network that is fed padding. A field that matters is not tried
    again, so a finding about NaN means that finite values change nothing.
    """
    view = audit.view
    everything = [*view.frame_fields, *view.step_fields]
    styles: tuple[Style, ...] = ("random", "zero") if audit.quick else (*DRAWN, "zero")
    final = final_frames(audit, styles)
    yield from final.phantom
    audit.phantom = bool(final.phantom)
    places: list[Place] = []
    for kind, where, region in [
        ("poison: padding", "in padding", regions.padding_else if audit.phantom else regions.padding),
        ("poison: after the end", "after the end", regions.stale),
    ]:
        innocent = list(everything) if region(view).any() else []
        for style in styles:
            for culprit in culprits(audit, innocent, region, style):
                innocent = [field for field in innocent if field not in culprit.fields]
                what = matter(culprit.fields, where) + audit.swamped_by(culprit.fields)
                yield finding(kind, what, culprit.changes, audit.evidence(culprit.overwrite))
        places.append((where, region, innocent))
    yield from final.others
    rest = [field for field in view.step_fields if field not in final.fields]
    places.append(("on frames without a step", regions.without_step, rest))
    yield from _not_finite(audit, places)


def _not_finite(audit: Audit, places: Sequence[Place]) -> Iterator[Finding]:
    """One finding for all fields whose NaN or inf gets through where finite values do not."""
    words, first, styles = [], None, []
    places = [(where, region, list(fields)) for where, region, fields in places]
    for style in NOT_FINITE[: 1 if audit.quick else 2]:
        if not _together(audit, places, style):
            continue
        for where, region, fields in places:
            through: list[str] = []
            for culprit in culprits(audit, fields, region, style):
                first = first or culprit
                through += culprit.fields
            if through:
                fields[:] = [field for field in fields if field not in through]
                words.append(f"{quoted(through)} {where}")
                styles += [style] if style not in styles else []
    if first is not None:
        what = f"{' or '.join(styles)} in {', and in '.join(words)} gets through; finite values do not"
        yield finding("poison: nan", what, first.changes, audit.evidence(first.overwrite))


def _together(audit: Audit, places: Sequence[Place], style: Style) -> bool:
    """Whether NaN or inf in all of these places at once changes a number."""
    view = audit.view
    for _, region, fields in places:
        floats = [field for field in fields if view.tensors[field].is_floating_point()]
        if floats and region(view).any():
            view = audit.overwrite(floats, region, style)(view)
    return view is not audit.view and bool(audit.changes(view))
