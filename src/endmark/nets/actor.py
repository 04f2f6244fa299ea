"""`Actor`: an agent and its head. What acts, and what a learner trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets.agents import Agent, AgentKind, Inputs
from endmark.nets.attention import AttentionAgent, AttentionOptions
from endmark.nets.feed_forward import FeedForwardAgent
from endmark.nets.groups import Share, groups_of
from endmark.nets.heads import (
    GaussianHead,
    Head,
    IndependentGaussianHeads,
    IndependentHeads,
    LinearHead,
)
from endmark.nets.independent import IndependentAgents
from endmark.nets.recurrent import RecurrentAgent

AnyAgent = RecurrentAgent | AttentionAgent | FeedForwardAgent
AGENTS: dict[AgentKind, Callable[[Inputs, int, AttentionOptions], AnyAgent]] = {
    "gru": lambda inputs, hidden_size, _: RecurrentAgent(inputs, hidden_size),
    "attention": AttentionAgent,
    "feedforward": lambda inputs, hidden_size, _: FeedForwardAgent(inputs, hidden_size),
}
"""From a kind's name to what makes an agent of it, untrained. The options are for attention alone."""


class Actor(nn.Module):
    """An agent and a head that reads its features. Both are modules, `Agent` and `Head` their contracts."""

    def __init__(self, agent: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self._modules["agent"], self._modules["head"] = agent, head

    @property
    def agent(self) -> Agent:
        """The network from observations to features."""
        return cast(Agent, self._modules["agent"])

    @property
    def head(self) -> Head:
        """The layer from features to values or logits."""
        return cast(Head, self._modules["head"])

    @property
    def gaussian(self) -> GaussianHead | IndependentGaussianHeads:
        """The layer from features to distributions over vectors; in the place of `head`."""
        return cast(GaussianHead | IndependentGaussianHeads, self._modules["head"])

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """Every output at every frame of every episode."""
        return self.head.outputs(self.agent.features(batch))

    def alone(self, n: int) -> Actor:
        """Agent n's own network and head. ValueError where it shares them with others."""
        agent, head = self.children()
        grouped = isinstance(agent, IndependentAgents) and (n,) in agent.groups
        if not grouped or not isinstance(head, IndependentHeads | IndependentGaussianHeads):
            raise ValueError("alone: given an actor whose agents share one network, want one for each")
        at = head.groups.index((n,))
        return Actor(cast(IndependentAgents, agent).agents[at], head.heads[at])

    @staticmethod
    def of(
        spec: EpisodeSpec,
        *,
        n_outputs: int,
        hidden_size: int,
        kind: AgentKind = "gru",
        attention: AttentionOptions = AttentionOptions(),
        last_action: bool = True,
        agent_id: bool = True,
        share: Share = "all",
    ) -> Actor:
        """An actor for the agents of `spec`: one network for all, one each, or one for each kind of agent.

        kind: with a memory ("gru", "attention") or without ("feedforward"). attention: the options of an
        attention agent, whose window is cut to the longest episode. last_action, agent_id: whether these join
        the observation, one-hot; an agent's number is that within its group.
        """
        if n_outputs < 1:
            raise ValueError(f"n_outputs: given {n_outputs}, want at least 1")
        make, attention = AGENTS[kind], attention.within(spec.episode_limit)
        groups, agents = groups_of(spec, share), []
        for group in groups:
            inputs = Inputs.of(spec.agents(group), last_action=last_action, agent_id=agent_id)
            agents.append(make(inputs, hidden_size, attention))
        heads = [LinearHead(hidden_size, n_outputs) for _ in groups]
        if len(groups) == 1:
            return Actor(agents[0], heads[0])
        return Actor(IndependentAgents(agents, groups), IndependentHeads(heads, groups))
