"""A recurrent agent: Q-values (or logits) for each agent from its own observations so far."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.ops.greedy import greedy_linear
from endmark.ops.gru import gru_unroll
from endmark.ops.linear import linear
from endmark.ops.linear_chosen import linear_chosen

NO_ACTION = -1  # no number of an action, as a one-hot input of which none is 1


class RecurrentAgent(nn.Module):
    """Linear, ReLU, GRU, linear; one set of parameters for all agents (Rashid et al. 2018, appendix).

    `step` is for acting, one frame at a time; `unroll` gives the same values on all frames of whole
    episodes at once, and `unroll_hidden` what they are made of.

    last_action, agent_id: whether these join the observation, one-hot.
    """

    def __init__(
        self, spec: EpisodeSpec, *, hidden_size: int, last_action: bool = True, agent_id: bool = True
    ) -> None:
        super().__init__()
        self.n_agents, self.n_actions = spec.n_agents, spec.n_actions
        self.hidden_size = hidden_size
        self.last_action = last_action
        self.agent_id = agent_id and spec.n_agents > 1
        n_inputs = torch.Size(spec.fields["obs"].shape[1:]).numel()
        n_inputs += spec.n_actions if self.last_action else 0
        n_inputs += spec.n_agents if self.agent_id else 0
        self.encoder = nn.Linear(n_inputs, hidden_size)
        self.recurrence = nn.GRUCell(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, spec.n_actions)

    def initial_hidden(self, n_rows: int) -> Float[Tensor, "K N H"]:
        """The hidden state before the first frame."""
        return self.encoder.weight.new_zeros(n_rows, self.n_agents, self.hidden_size)

    def step(
        self,
        obs: Float[Tensor, "K N ..."],
        last_actions: Int[Tensor, "K N"],
        hidden: Float[Tensor, "K N H"],
    ) -> tuple[Float[Tensor, "K N A"], Float[Tensor, "K N H"]]:
        """Values at one frame of K episodes, and the hidden state for the next.

        last_actions: `NO_ACTION` at an episode's first frame.
        """
        obs, one_hot = self.inputs(obs, last_actions)
        x = linear(self.encoder, obs, one_hot=one_hot, relu=True)
        h: Tensor = self.recurrence(x.flatten(0, 1), hidden.flatten(0, 1))
        h = h.view_as(hidden)
        return self.values(h), h

    def unroll(self, batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """Values at every frame of every episode of the batch."""
        return self.values(self.unroll_hidden(batch))

    def unroll_hidden(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """The hidden state at every frame of every episode, which `values`, `value_of` and `greedy` read."""
        obs, one_hot = self.inputs(batch.obs, batch.last_actions)
        return gru_unroll(self.recurrence, obs, batch.time_major, encoder=self.encoder, one_hot=one_hot)

    def values(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows A"]:
        """The value of each action."""
        return linear(self.head, hidden)

    def value_of(
        self, hidden: Float[Tensor, "*rows H"], actions: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows"]:
        """The value of these actions alone, which spares the others' gradients; 0 for `NO_ACTION`."""
        return linear_chosen(self.head, hidden, actions)

    def greedy(
        self, hidden: Float[Tensor, "*rows H"], avail_actions: Bool[Tensor, "*rows A"]
    ) -> Int[Tensor, "*rows"]:
        """The legal action of the highest value."""
        return greedy_linear(self.head, hidden, avail_actions)

    def inputs(
        self, obs: Float[Tensor, "K N ..."], last_actions: Int[Tensor, "K N"]
    ) -> tuple[Float[Tensor, "K N O"], Int[Tensor, "K N C"] | None]:
        """What the encoder reads: observations, and which of the one-hot inputs after them are 1."""
        obs = obs.flatten(2) if obs.ndim > 2 else obs[..., None]  # an observation may be a single number
        one_hot = []
        if self.last_action:
            one_hot.append(last_actions)  # of which `NO_ACTION` is none
        if self.agent_id:
            before = self.n_actions if self.last_action else 0
            ids = torch.arange(before, before + self.n_agents, device=obs.device)
            one_hot.append(ids.expand(len(obs), -1))
        return obs, torch.stack(one_hot, -1) if one_hot else None
