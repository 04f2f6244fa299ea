"""QPLEX's mixer: a team value whose best joint action is made of each agent's best, and no narrower."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeSpec
from endmark.nets.images import StateAsVector
from endmark.ops import linear
from endmark.ops.mlps import mlps

LEAST = 1e-10
"""What keeps a weight above 0, and so the agents' order of actions in the team's value."""


class QPLEXMixer(nn.Module):
    """Duplex dueling: of each agent Q_i = V_i + A_i with A_i <= 0, scaled by the state, then mixed.

        V_i' = w_i(s) V_i + b_i(s),   A_i' = w_i(s) A_i,   w_i > 0
        Q_tot = Σ V_i' + Σ λ_i(s, u) A_i' = Σ (V_i' + A_i') + Σ (λ_i(s, u) - 1) A_i'
        λ_i(s, u) = Σ_k υ_k(s) σ(φ_ik(s)) σ(ψ_ik(s, u)) > 0

    The A_i' of the last sum has no gradient, which steadies the maximum in it, as the authors have it.
    hyper_size: hidden units of each of the networks w, b, υ, φ and ψ. heads: how many k.

    Wang et al. (2021), arXiv:2008.01062. An agent that does not count adds nothing: neither
    Q_i' nor b_i, and its action is no part of u.
    """

    def __init__(self, spec: EpisodeSpec, *, hyper_size: int, heads: int) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        self.n_agents, self.n_actions, self.heads = spec.n_agents, spec.n_actions, heads
        state_size = self.state.n_features

        def network(n_outputs: int, n_actions: int = 0) -> nn.Sequential:
            first = nn.Linear(state_size + n_actions, hyper_size)
            return nn.Sequential(first, nn.ReLU(), nn.Linear(hyper_size, n_outputs))

        self.scale, self.shift = network(spec.n_agents), network(spec.n_agents)
        self.head, self.agent = network(heads), network(heads * spec.n_agents)
        self.joint = network(heads * spec.n_agents, spec.n_agents * spec.n_actions)
        networks = self.scale, self.shift, self.head, self.agent
        self._networks = [[m for m in network.modules() if isinstance(m, nn.Linear)] for network in networks]

    def forward(
        self,
        values: Float[Tensor, "S N"],
        greedy: Float[Tensor, "S N"],
        actions: Int[Tensor, "S N"],
        counted: Bool[Tensor, "S N"],
        state: Real[Tensor, "F ..."],
        frames: Int[Tensor, " S"],
    ) -> Float[Tensor, " S"]:
        """The team's value of the joint action at each step.

        values: Q_i of `actions`. greedy: V_i, the value of the agent's best legal action. counted: False for
        agents that add nothing, whose other numbers may be anything. state, frames: as for every mixer.
        """
        state = self.state(state)
        scale, shift, head, agent = mlps(state, self._networks, frames)
        scale = scale.abs() + LEAST
        values, greedy = torch.where(counted, values, 0.0), torch.where(counted, greedy, 0.0)
        transformed = torch.where(counted, scale * values + shift, 0.0)  # V_i' + A_i'
        advantage = (scale * (values - greedy)).detach()
        importance = self._importance(state[frames], torch.where(counted, actions, -1), head, agent)
        return transformed.sum(-1) + ((importance - 1) * advantage).sum(-1)

    def _importance(
        self,
        state: Float[Tensor, "S I"],
        actions: Int[Tensor, "S N"],
        head: Float[Tensor, "S K"],
        agent: Float[Tensor, "S KN"],
    ) -> Float[Tensor, "S N"]:
        """λ. A negative action is none."""
        before = torch.arange(self.n_agents, device=actions.device) * self.n_actions
        one_hot = torch.where(actions < 0, -1, before + actions)
        first, _, last = self.joint
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        joint = linear(last, linear(first, state, one_hot=one_hot, relu=True))
        shape = len(actions), self.heads, self.n_agents
        parts = agent.view(shape).sigmoid() * joint.view(shape).sigmoid()
        return ((head.abs() + LEAST)[:, :, None] * parts).sum(1)
