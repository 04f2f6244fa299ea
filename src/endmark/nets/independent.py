"""Networks that share nothing, each for some of a team's agents, of any kind of network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.episodes.seen import columns
from endmark.nets.agents import Agent, Memory
from endmark.nets.groups import Groups, join


class IndependentAgents(nn.Module):
    """An agent network for each group, made for a team of its size, as one `Agent` for all N agents."""

    def __init__(self, agents: Sequence[nn.Module], groups: Groups) -> None:
        super().__init__()
        self.agents, self.groups = nn.ModuleList(agents), groups
        self.n_features = cast(Agent, agents[0]).n_features

    def start(self, n_rows: int) -> Memory:
        """The agents' memories side by side."""
        return self._side_by_side([agent.start(n_rows) for agent, _ in self._pairs()])

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Features at one frame of K episodes, each agent's from the network of its group."""
        features, memories = [], []
        for agent, group in self._pairs():
            own = columns(group)
            before = {name: tensor[:, own] for name, tensor in memory.items()}
            out, after = agent.step(seen.agents(group), last_actions[:, own], before)
            features.append(out)
            memories.append(after)
        return join(features, self.groups, 1), self._side_by_side(memories)

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """Features at every frame, each agent's from the network of its group."""
        parts = [agent.features(batch.agents(group)) for agent, group in self._pairs()]
        return join(parts, self.groups, 1)

    def _pairs(self) -> list[tuple[Agent, tuple[int, ...]]]:
        return list(zip(self.agents, self.groups, strict=True))  # type: ignore[arg-type]

    def _side_by_side(self, memories: Sequence[Memory]) -> Memory:
        """[K, n, ...] of each group to [K, N, ...]."""
        return {name: join([memory[name] for memory in memories], self.groups, 1) for name in memories[0]}
