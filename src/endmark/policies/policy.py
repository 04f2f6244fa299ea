"""The contract of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from endmark.episodes import Seen


@runtime_checkable
class Policy(Protocol):
    """Acts in K environments side by side, and remembers what it needs from frame to frame."""

    def act(self, seen: Seen) -> Mapping[str, Tensor]:
        """`actions` and every further step field that the learner's spec names.

        `actions` [K, N] int64, legal ones, or [K, N, D] float32 within their bounds.

        Where `seen.first` is True an episode starts, and memory starts anew. The tensors of `seen` are the
        same at every call, with new numbers in them.
        """
        ...

    def schedule(self, env_steps: int) -> Mapping[str, float]:
        """Set what changes over time, such as `epsilon`, for this many environment steps; what was set."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Memory and generator: everything that the next actions depend on, but for the networks."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        ...
