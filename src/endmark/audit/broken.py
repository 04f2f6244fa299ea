"""A loss that is not finite on the batch as it is: find the field that makes it so."""

from __future__ import annotations

from endmark.audit import regions
from endmark.audit.cells import positions
from endmark.audit.compare import is_additive
from endmark.audit.disturb import Overwrite
from endmark.audit.findings import Evidence, Finding
from endmark.audit.kinds import finding
from endmark.audit.measure import Subject
from endmark.audit.regions import Region
from endmark.audit.view import View


def not_finite(subject: Subject, view: View, seed: int) -> Finding | None:
    """The field that makes the loss not finite where it must not matter. None if it is no single one."""
    everything = (*view.frame_fields, *view.step_fields)
    places: list[tuple[str, Region, tuple[str, ...]]] = [
        ("in padding", regions.padding, everything),
        ("after the end", regions.stale, everything),
        ("on frames without a step", regions.without_step, view.step_fields),
    ]
    for where, region, fields in places:
        for field in fields if region(view).any() else ():
            mended = subject.measure(Overwrite((field,), region, "random", seed)(view)).numbers
            if all(value.isfinite().all() for name, value in mended.items() if is_additive(name)):
                what = f"the loss is not finite, because of '{field}' {where}"
                evidence = Evidence((field,), positions(view, region(view)))
                return finding("poison: not finite", what, (), evidence)
    return None


def where_not_finite(view: View) -> str:
    """In words, the fields that hold NaN or inf themselves, each with the first place; empty if none does."""
    words = []
    for field in (*view.frame_fields, *view.step_fields):
        tensor = view.tensors[field].cpu()
        real = view.steps if field in view.step_fields else view.frames
        broken = real & ~tensor.isfinite().reshape(*real.shape, -1).all(-1)
        if broken.any():
            (episode, t), *others = positions(view, broken)
            more = f" and {len(others)} more" if others else ""
            words.append(f"'{field}' holds NaN or inf at (episode {episode}, t {t}){more}")
    return ", ".join(words)
