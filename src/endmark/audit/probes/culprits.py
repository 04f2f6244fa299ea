"""Find the fields that matter in a region where none should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from endmark.audit.compare import Change
from endmark.audit.context import Audit
from endmark.audit.disturb import Overwrite
from endmark.audit.draw import Style
from endmark.audit.regions import Region
from endmark.audit.shrink import small_subset

DRAWN: tuple[Style, ...] = ("random", "other random")
NOT_FINITE: tuple[Style, ...] = ("nan", "inf")


class Culprit(NamedTuple):
    """Fields that matter where they should not: the disturbance that shows it, and the changed numbers."""

    overwrite: Overwrite
    changes: list[Change]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields, by name."""
        return self.overwrite.fields


def culprits(audit: Audit, fields: Sequence[str], region: Region, style: Style) -> Iterator[Culprit]:
    """Each field that matters in the region; or a few fields that matter only together.

    All fields are overwritten together first: where nothing leaks, one evaluation is enough.
    """
    if style in NOT_FINITE:
        fields = [field for field in fields if audit.view.tensors[field].is_floating_point()]
    if not fields or not region(audit.view).any():
        return

    def tried(some: Sequence[str]) -> Culprit:
        overwrite = audit.overwrite(some, region, style)
        return Culprit(overwrite, audit.changes(overwrite(audit.view)))

    together = tried(fields)
    if not together.changes:
        return
    alone = False
    for field in fields if len(fields) > 1 else ():
        culprit = tried([field])
        if culprit.changes:
            alone = True
            yield culprit
    if not alone:
        if len(fields) > 2:
            together = tried(small_subset(list(fields), lambda some: bool(tried(some).changes)))
        yield together


def quoted(names: Sequence[str]) -> str:
    """'a' and 'b'."""
    return " and ".join(f"'{name}'" for name in names)


def matter(fields: Sequence[str], where: str) -> str:
    """The sentence of a finding: the fields matter there."""
    return f"{quoted(fields)} {where} matter{'s' * (len(fields) == 1)}"
