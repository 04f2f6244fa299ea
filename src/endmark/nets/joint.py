"""Team values without a restriction on their form, for training alone: they are no part of acting."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeSpec
from endmark.nets.images import StateAsVector
from endmark.ops import linear


def _network(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, with a ReLU between them."""
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(sizes):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class CentralMixer(nn.Module):
    """Weighted QMIX's Q*: any function of the state and the values that central agents give.

        Q* = f(s, q_1, .., q_N) + V(s)

    size: units of each hidden layer; f has three, V one. Rashid et al. (2020), arXiv:2006.10800, appendix.
    """

    def __init__(self, spec: EpisodeSpec, *, size: int) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        state_size = self.state.n_features
        self.mix = _network(state_size + spec.n_agents, size, size, size, 1)
        self.value = _network(state_size, size, 1)

    def forward(
        self, values: Float[Tensor, "S N"], state: Real[Tensor, "F ..."], frames: Int[Tensor, " S"]
    ) -> Float[Tensor, " S"]:
        """The team's value at each step; an agent that does not count has the value 0."""
        at = self.state(state)[frames]
        mixed: Tensor = self.mix(torch.cat([at, values], 1)) + self.value(at)
        return mixed[:, 0]


class JointValue(nn.Module):
    """QTRAN-base's Q(τ, u), from the agents' features, their actions and the state, and its V(s).

        Q = f(s, Σ_i e(h_i, u_i))

    h_i are the features of the agents' own network, whose lower layers this one so shares. Agents that do not
    count are left out of the sum. size: units of each of f's and V's two hidden layers.

    Son et al. (2019), arXiv:1905.05408; V reads the state, as PyMARL has it.
    """

    def __init__(self, spec: EpisodeSpec, n_features: int, *, size: int) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        state_size, width = self.state.n_features, n_features + spec.n_actions
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.joint = _network(state_size + width, size, size, 1)
        self.value = _network(state_size, size, size, 1)

    def forward(
        self,
        features: Float[Tensor, "S N H"],
        actions: Int[Tensor, "S N"],
        counted: Bool[Tensor, "S N"],
        state: Real[Tensor, "F ..."],
        frames: Int[Tensor, " S"],
    ) -> Float[Tensor, " S"]:
        """Q of the joint action at each step."""
        features = torch.where(counted[..., None], features, 0.0)
        one_hot = torch.where(counted, actions, -1)[..., None]
        encoded = linear(self.second, linear(self.first, features, one_hot=one_hot, relu=True))
        summed = torch.where(counted[..., None], encoded, 0.0).sum(1)
        joint: Tensor = self.joint(torch.cat([self.state(state)[frames], summed], 1))
        return joint[:, 0]

    def baseline(self, state: Real[Tensor, "F ..."], frames: Int[Tensor, " S"]) -> Float[Tensor, " S"]:
        """V at each step."""
        value: Tensor = self.value(self.state(state)[frames])
        return value[:, 0]
