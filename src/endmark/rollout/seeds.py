"""The seeds that episodes start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class EpisodeSeeds:
    """An endless sequence of seeds, the same for the same entropy. An iterator of numbers below 2**31."""

    def __init__(self, *entropy: int) -> None:
        self._entropy = entropy
        self._drawn = 0
        self._generator = np.random.Generator(np.random.PCG64(entropy))

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self._drawn += 1
        return int(self._generator.integers(2**31))

    def state_dict(self) -> dict[str, Any]:
        """How many seeds were drawn."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after as many seeds as a `state_dict` says."""
        self._generator = np.random.Generator(np.random.PCG64(self._entropy))
        self._drawn = int(state["drawn"])
        for _ in range(self._drawn):
            self._generator.integers(2**31)
