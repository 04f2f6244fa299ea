"""The feed-forward agent: two layers, no memory."""

from __future__ import annotations

from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.episodes.ragged import TimeMajor
from endmark.nets.agents import Inputs, Memory
from endmark.ops import linear


class FeedForwardAgent(nn.Module):
    """Linear, ReLU, linear, ReLU, with one set of parameters for all agents. An `Agent` without memory."""

    def __init__(self, inputs: Inputs, hidden_size: int) -> None:
        super().__init__()
        self.inputs, self.n_features = inputs, hidden_size
        self.encoder = nn.Linear(inputs.size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)

    def start(self, n_rows: int) -> Memory:  # noqa: ARG002
        """Nothing to remember."""
        return {}

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Features at one frame of K episodes."""
        return self.advance(seen.obs, last_actions, memory)

    def advance(
        self, obs: Real[Tensor, "K N ..."], last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """`step` from these observations."""
        return self._features(obs, last_actions), memory

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """Features at every frame."""
        return self._features(batch.obs, batch.last_actions)

    def unroll(
        self,
        obs: Real[Tensor, "F N ..."],
        last_actions: Real[Tensor, "F N *D"],
        packing: TimeMajor,  # noqa: ARG002
    ) -> Float[Tensor, "F N H"]:
        """`features` of these observations and last actions; frames do not depend on one another."""
        return self._features(obs, last_actions)

    def _features(
        self, obs: Real[Tensor, "K N ..."], last_actions: Real[Tensor, "K N *D"]
    ) -> Float[Tensor, "K N H"]:
        flat, one_hot = self.inputs(obs, last_actions)
        x = linear(self.encoder, flat, one_hot=one_hot, relu=True)
        return linear(self.hidden, x, relu=True)
