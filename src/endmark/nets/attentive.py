"""QATTEN's mixer: the team's value as a weighted sum of the agents' values, with weights by attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets.images import AsVector, StateAsVector
from endmark.ops.mlps import mlps


class QattenMixer(nn.Module):
    """Attention of the state to the agents, in several heads; monotone in each agent's value.

        Q_tot = c(s) + Σ_h w_h(s) Σ_i λ_ih Q_i,   w_h >= 0
        λ_ih = softmax over agents i of  query_h(s) · key_h(u_i) / √E

    u_i is what agent i observes at the frame, and its number. embed_size: E. hyper_size: hidden units of the
    networks query, w and c.

    Yang et al. (2020), arXiv:2002.03939. There, u_i is agent i's part of StarCraft's state,
    which other environments do not mark. An agent that does not count gets no attention, and the
    softmax is over the others.
    """

    def __init__(self, spec: EpisodeSpec, *, embed_size: int, hyper_size: int, heads: int) -> None:
        super().__init__()
        self.state, self.embed_size, self.heads = StateAsVector(spec), embed_size, heads
        self.obs = AsVector(spec.fields["obs"].shape[1:])
        # A bias would add the same to every agent's score, which a softmax does not see.
        self.key = nn.Linear(self.obs.n_features + spec.n_agents, heads * embed_size, bias=False)

        def network(n_outputs: int) -> nn.Sequential:
            first = nn.Linear(self.state.n_features, hyper_size)
            return nn.Sequential(first, nn.ReLU(), nn.Linear(hyper_size, n_outputs))

        self.query, self.weight, self.bias = network(heads * embed_size), network(heads), network(1)
        networks = self.query, self.weight, self.bias
        self._networks = [[m for m in network.modules() if isinstance(m, nn.Linear)] for network in networks]

    def forward(
        self, values: Float[Tensor, "S N"], batch: EpisodeBatch, frames: Int[Tensor, " S"]
    ) -> Float[Tensor, " S"]:
        """The team's value of each step. values: of the agents; those that do not count may have any.

        frames: the frame of each step. The agents that count are the batch's `learning` ones there.
        """
        counted = batch.learning[frames]
        query, weight, bias = mlps(self.state(batch.state), self._networks, frames)
        attention = self._attention(query, batch, frames)  # [S, K, N]
        of_heads = (attention * torch.where(counted, values, 0.0)[:, None]).sum(-1)
        return (weight.abs() * of_heads).sum(-1) + bias[:, 0]

    def _attention(
        self, query: Float[Tensor, "S KE"], batch: EpisodeBatch, frames: Int[Tensor, " S"]
    ) -> Float[Tensor, "S K N"]:
        """λ: of the agents that count it adds up to 1, the others have 0."""
        counted, obs = batch.learning[frames], batch.obs[frames]
        here = counted.view(*counted.shape, *(1,) * (obs.ndim - 2))
        seen = self.obs(torch.where(here, obs, 0))  # else what is not finite reaches the query's gradient
        numbers = torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device).expand(len(seen), -1, -1)
        shape = len(seen), -1, self.heads, self.embed_size
        key, query = self.key(torch.cat([seen, numbers], -1)).view(shape), query.view(shape)[:, 0]
        scores = torch.einsum("ske,snke->skn", query, key) / math.sqrt(self.embed_size)
        counts = counted[:, None].expand_as(scores)
        scores = torch.where(counts, scores, torch.finfo(scores.dtype).min)
        return torch.where(counts, scores.softmax(-1), 0.0)  # where nobody counts, the softmax is even
