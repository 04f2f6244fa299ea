"""The kinds of a team's agents, as far as their names and spaces tell them apart."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence

_NUMBER = re.compile(r"[_\- ]?\d+$")


def by_name(names: Iterable[object], *sizes: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """A kind for each agent: its name without its number, as in `adversary_0`, and its sizes.

    sizes: of all agents' observations, of their actions, .. Those of different sizes are of different kinds.
    """
    stems = [_NUMBER.sub("", str(name)) for name in names]
    return tuple(zip(stems, *sizes, strict=True))
