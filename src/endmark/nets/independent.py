"""No parameter sharing: a network of its own for each agent, of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.nets.agents import Agent, Memory


class IndependentAgents(nn.Module):
    """N agents, each for a team of one, as one `Agent` for a team of N."""

    def __init__(self, agents: Sequence[nn.Module]) -> None:
        super().__init__()
        self.agents = nn.ModuleList(agents)
        self.n_features = cast(Agent, agents[0]).n_features

    def start(self, n_rows: int) -> Memory:
        """The agents' memories side by side."""
        return _side_by_side([agent.start(n_rows) for agent in self._agents()])

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Features at one frame of K episodes, each agent's from its own network."""
        features, memories = [], []
        for n, agent in enumerate(self._agents()):
            own = {name: tensor[:, n : n + 1] for name, tensor in memory.items()}
            out, own = agent.step(seen.agent(n), last_actions[:, n : n + 1], own)  # type: ignore[assignment]
            features.append(out)
            memories.append(own)
        return torch.cat(features, 1), _side_by_side(memories)

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """Features at every frame, each agent's from its own network."""
        return torch.cat([agent.features(batch.agent(n)) for n, agent in enumerate(self._agents())], 1)

    def _agents(self) -> list[Agent]:
        return list(self.agents)  # type: ignore[arg-type]


def _side_by_side(memories: Sequence[Memory]) -> Memory:
    """[K, 1, ...] of each agent to [K, N, ...]."""
    return {name: torch.cat([memory[name] for memory in memories], 1) for name in memories[0]}
