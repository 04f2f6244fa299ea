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
        if not 0 <= (drawn := int(state["drawn"])) < 2**63:
            raise ValueError(f"drawn: given {drawn} seeds, want 0 <= drawn < 2**63")
        self._drawn = drawn
        # At once, for a damaged state may say 2**62: two seeds come of each number that the generator draws.
        self._generator.bit_generator.advance(drawn // 2)  # type: ignore[attr-defined]  # PCG64 has it
        if drawn % 2:
            self._generator.integers(2**31)
