"""Mixers: the team's value from the agents' values, for centralised training.

Arguments of every mixer:

    values: the agents' values at S steps
    state: the global states at all F frames
    frames: the frame of each step; None if every frame is a step, S = F

The result is the team's value at each step, in the unit of the agents' values.
"""

from __future__ import annotations

from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeSpec
from endmark.nets.images import StateAsVector
from endmark.ops.mixing import monotone_mix
from endmark.ops.mlps import mlps


class VDNMixer(nn.Module):
    """Q_tot = sum of the agents' values (Sunehag et al. 2018, arXiv:1706.05296). Has no parameters."""

    def forward(
        self,
        values: Float[Tensor, "S N"],
        state: Real[Tensor, "F ..."],  # noqa: ARG002
        frames: Int[Tensor, " S"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " S"]:
        """The team's value of each step; the state is not used."""
        return values.sum(-1)


class QMIXMixer(nn.Module):
    """Q_tot, monotone in each agent's value. Hypernetworks compute the weights from the global state.

        Q_tot = |W_2(s)|ᵀ elu(|W_1(s)| q + b_1(s)) + b_2(s)

    embed_size: units of the mixing network. hyper_size: hidden units of the hypernetworks for W_1 and W_2.

    Rashid et al. (2018), arXiv:1803.11485, figure 2.
    """

    def __init__(self, spec: EpisodeSpec, *, embed_size: int, hyper_size: int) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        state_size = self.state.n_features
        self.n_agents, self.embed_size = spec.n_agents, embed_size

        def hypernetwork(n_outputs: int) -> nn.Sequential:
            layers = nn.Linear(state_size, hyper_size), nn.ReLU(), nn.Linear(hyper_size, n_outputs)
            return nn.Sequential(*layers)

        self.weight_1 = hypernetwork(spec.n_agents * embed_size)
        self.weight_2 = hypernetwork(embed_size)
        self.bias_1 = nn.Linear(state_size, embed_size)
        self.bias_2 = nn.Sequential(nn.Linear(state_size, embed_size), nn.ReLU(), nn.Linear(embed_size, 1))
        networks = self.weight_1, self.bias_1, self.weight_2, self.bias_2
        self._networks = [[m for m in network.modules() if isinstance(m, nn.Linear)] for network in networks]

    def forward(
        self,
        values: Float[Tensor, "S N"],
        state: Real[Tensor, "F ..."],
        frames: Int[Tensor, " S"] | None = None,
    ) -> Float[Tensor, " S"]:
        """The team's value of each step."""
        weight_1, bias_1, weight_2, bias_2 = mlps(self.state(state), self._networks, frames)
        return monotone_mix(values, weight_1, bias_1, weight_2, bias_2[:, 0])
