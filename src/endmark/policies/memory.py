"""The memory of a policy that acts by an agent network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from endmark.episodes import Seen
from endmark.nets import Actor, Memory


class ActorMemory:
    """What an actor's agent remembers in K environments. A row is forgotten where an episode starts."""

    def __init__(self, actor: Actor, n_envs: int) -> None:
        self.actor = actor
        self._start, self._memory = actor.agent.start(n_envs), actor.agent.start(n_envs)
        self.device = next(actor.parameters()).device

    def features(self, seen: Seen) -> Float[Tensor, "K N H"]:
        """The agent's features at this frame, until the next one is asked for: they may be the memory itself.

        `seen` is on the networks' device.
        """
        renew_(self._memory, self._start, seen.first)
        features, self._memory = self.actor.agent.step(seen, seen.last_actions, self._memory)
        return features

    def state_dict(self) -> dict[str, Any]:
        """A copy of the memory."""
        return {name: tensor.clone() for name, tensor in self._memory.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._memory = {name: state[name].to(self.device, copy=True) for name in self._start}


def renew_(memory: Memory, start: Memory, first: Bool[Tensor, " K"]) -> None:
    """Make the memory that of the start where an episode starts.

    In place, and row by row: what an attention agent remembers is large, and few rows start at once.
    """
    rows = first.nonzero()[:, 0]
    if len(rows):
        for name, tensor in memory.items():
            tensor[rows] = start[name][rows]
