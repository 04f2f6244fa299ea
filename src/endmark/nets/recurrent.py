"""The recurrent agent: linear, ReLU, GRU."""

from __future__ import annotations

from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.episodes.ragged import TimeMajor
from endmark.nets.agents import Inputs, Memory
from endmark.ops import gru_advance, gru_unroll


class RecurrentAgent(nn.Module):
    """Linear, ReLU, GRU, with one set of parameters for all agents (Rashid et al. 2018, appendix).

    Its features are the GRU's hidden states. An `Agent`.
    """

    def __init__(self, inputs: Inputs, hidden_size: int) -> None:
        super().__init__()
        self.inputs, self.n_features = inputs, hidden_size
        self.encoder = nn.Linear(inputs.size, hidden_size)
        self.recurrence = nn.GRUCell(hidden_size, hidden_size)

    def start(self, n_rows: int) -> Memory:
        """Hidden states of zeros, [K, N, H]."""
        return {"hidden": self.encoder.weight.new_zeros(n_rows, self.inputs.n_agents, self.n_features)}

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Hidden states after one frame of K episodes, which are features and memory in one."""
        return self.advance(seen.obs, last_actions, memory)

    def advance(
        self, obs: Real[Tensor, "K N ..."], last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """`step` from these observations."""
        flat, one_hot = self.inputs(obs, last_actions)
        hidden = gru_advance(self.recurrence, flat, memory["hidden"], encoder=self.encoder, one_hot=one_hot)
        return hidden, {"hidden": hidden}

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """The hidden state after every frame of every episode."""
        return self.unroll(batch.obs, batch.last_actions, batch.time_major)

    def unroll(
        self, obs: Real[Tensor, "F N ..."], last_actions: Real[Tensor, "F N *D"], packing: TimeMajor
    ) -> Float[Tensor, "F N H"]:
        """`features` of these observations and last actions, for ragged frames packed by `packing`."""
        flat, one_hot = self.inputs(obs, last_actions)
        return gru_unroll(self.recurrence, flat, packing, encoder=self.encoder, one_hot=one_hot)
