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
from endmark.nets.heads import GaussianHead, Head, IndependentHeads, LinearHead
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
    def gaussian(self) -> GaussianHead:
        """The layer from features to distributions over vectors; in the place of `head`."""
        return cast(GaussianHead, self._modules["head"])

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """Every output at every frame of every episode."""
        return self.head.outputs(self.agent.features(batch))

    def alone(self, n: int) -> Actor:
        """Agent n's own network and head. ValueError where all agents share one network."""
        if not (isinstance(self.agent, IndependentAgents) and isinstance(self.head, IndependentHeads)):
            raise ValueError("alone: given an actor whose agents share one network, want one for each")
        return Actor(self.agent.agents[n], self.head.heads[n])

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
        share_parameters: bool = True,
    ) -> Actor:
        """An actor for the agents of `spec`: one for all, or one each without parameter sharing.

        kind: with a memory ("gru", "attention") or without ("feedforward"). attention: the options of an
        attention agent, whose window is cut to the longest episode. last_action, agent_id: whether these join
        the observation, one-hot.
        """
        if n_outputs < 1:
            raise ValueError(f"n_outputs: given {n_outputs}, want at least 1")
        make, attention = AGENTS[kind], attention.within(spec.episode_limit)
        if share_parameters or spec.n_agents == 1:
            inputs = Inputs.of(spec, last_action=last_action, agent_id=agent_id)
            return Actor(make(inputs, hidden_size, attention), LinearHead(hidden_size, n_outputs))
        agents = [
            make(Inputs.of(spec.agent(), last_action=last_action, agent_id=False), hidden_size, attention)
            for _ in range(spec.n_agents)
        ]
        heads = [LinearHead(hidden_size, n_outputs) for _ in range(spec.n_agents)]
        return Actor(IndependentAgents(agents), IndependentHeads(heads))
