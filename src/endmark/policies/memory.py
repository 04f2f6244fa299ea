"""The memory of a policy that acts by an agent network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from endmark.episodes import Seen
from endmark.nets import NO_ACTION, Actor


class ActorMemory:
    """What an actor remembers in K environments: the agent's memory and the last actions.

    A row is forgotten where an episode starts.
    """

    def __init__(self, actor: Actor, n_envs: int, n_agents: int) -> None:
        self.actor = actor
        self._start = actor.agent.start(n_envs)
        self._memory = self._start
        device = next(actor.parameters()).device
        self.last_actions = torch.full((n_envs, n_agents), NO_ACTION, device=device)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.last_actions.device

    def features(self, seen: Seen) -> Float[Tensor, "K N H"]:
        """The agent's features at this frame. `seen` is on the networks' device."""
        first = seen.first
        self.last_actions.masked_fill_(first[:, None], NO_ACTION)
        memory = {
            name: torch.where(first.view(-1, *(1,) * (tensor.ndim - 1)), self._start[name], tensor)
            for name, tensor in self._memory.items()
        }
        features, self._memory = self.actor.agent.step(seen, self.last_actions, memory)
        return features

    def remember(self, actions: Int[Tensor, "K N"]) -> None:
        """These were done: the last actions of the next frame."""
        self.last_actions.copy_(actions)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the memory and of the last actions."""
        memory = {name: tensor.clone() for name, tensor in self._memory.items()}
        return {"memory": memory, "last_actions": self.last_actions.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._memory = {name: state["memory"][name].to(self.device) for name in self._start}
        self.last_actions.copy_(state["last_actions"])
