"""Probe: the loss changes nothing in the batch, and gives the same numbers the second time.

Made for writes in place, as on a float32 `filled` whose `.float()` makes no copy, and for state that a loss
keeps from one call to the next.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from endmark.audit.compare import Change, Numbers, compare, is_additive, relative_change, same
from endmark.audit.context import Audit, Unstable
from endmark.audit.findings import Finding
from endmark.audit.kinds import finding
from endmark.audit.measure import in_a_line
from endmark.audit.noise import PinnedNoise
from endmark.audit.restore import reseeded_generators
from endmark.audit.view import PaddedView


def probe(audit: Audit) -> Iterator[Finding]:
    """Evaluate the batch again, with other random numbers and then with the same ones.

    Sets `audit.stochastic`, and removes metrics and attributes from the reference that differ at every call.
    Raises Unstable if any other number differs.
    """
    view, subject = audit.view, audit.subject
    before = view.tensors_of(view.to_batch())
    try:
        with reseeded_generators():
            other, after = subject.measure(view)
        again = other if not _differing(audit.reference, other) else subject.measure(view).numbers
    except Exception as error:
        what = "the loss fails the second time that it is given the same batch"
        yield finding("purity: twice", what, [Change(f"it fails: {in_a_line(error)}", float("inf"))])
        raise Unstable(f"{what}, so nothing else can be tried") from error
    written = [name for name, tensor in before.items() if name in after and not same(tensor, after[name])]
    for name in [] if _on_purpose(audit, written, after) else written:
        changes = [Change(f"field {name}", relative_change(before[name], after[name]))]
        yield finding("purity", f"the loss writes to '{name}'", changes)
    unsteady = _differing(audit.reference, again)
    if unsteady and all(name.startswith(("metric ", "attribute ")) for name in unsteady):
        changes = [Change(name, relative_change(audit.reference.pop(name), again[name])) for name in unsteady]
        if metrics := [change for change in changes if change.what.startswith("metric ")]:
            names = ", ".join(change.what for change in metrics)
            what = f"a number that differs at every call, as a clock does, is not compared: {names}"
            yield finding("purity: metric", what, metrics)
    if changes := compare(audit.reference, again):
        what = "the same batch gives another result the second time"
        yield finding("purity: twice", what, changes)
        raise Unstable(f"{what}, so nothing else can be compared")
    audit.stochastic = bool(compare(audit.reference, other)) and not _pinned(audit)


def _pinned(audit: Audit) -> bool:
    """Pin the noise of the loss, if that makes it steady; the reference is then one with pinned noise."""
    subject = audit.subject
    subject.noise = noise = PinnedNoise()
    try:
        reference = subject.measure(audit.view).numbers
        with reseeded_generators():
            other = subject.measure(audit.view).numbers
    except Exception:
        noise.missed = True
    if noise.missed or compare(reference, other) or not all(map(_finite, reference.items())):
        subject.noise = None
        return False
    audit.reference = {name: value for name, value in reference.items() if name in audit.reference}
    return True


def _finite(number: tuple[str, Tensor]) -> bool:
    return not is_additive(number[0]) or bool(number[1].isfinite().all())


def _on_purpose(audit: Audit, written: list[str], after: dict[str, Tensor]) -> bool:
    """Whether the batch that was written to gives the same numbers, as a buffer of returns to fill in does.

    Never so for a flag: what reads it next sees another mask.
    """
    view = audit.view
    if not written or not isinstance(view, PaddedView) or {*written} & {*view.flags}:
        return False
    if any(after[name].shape != view.tensors[name].shape for name in written):
        return False
    try:
        again = audit.subject.measure(view.with_tensors({name: after[name].clone() for name in written}))
    except Exception:
        return False
    return not compare(audit.reference, again.numbers)


def _differing(reference: Numbers, other: Numbers) -> list[str]:
    """The names whose numbers are not the same bit for bit."""
    return [name for name, value in reference.items() if not same(value, other.get(name))]
