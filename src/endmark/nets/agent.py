"""A recurrent agent: Q-values (or logits) for each agent from its own observations so far."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets.gru import gru_unroll

NO_ACTION = -1


class RecurrentAgent(nn.Module):
    """Linear, ReLU, GRU, linear; one set of parameters for all agents (Rashid et al. 2018, appendix).

    `step` is for acting, one frame at a time; `unroll` gives the same values on all frames of whole
    episodes at once.

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
        x = self._encode(obs, last_actions)
        h: Tensor = self.recurrence(x.flatten(0, 1), hidden.flatten(0, 1))
        h = h.view_as(hidden)
        values: Tensor = self.head(h)
        return values, h

    def unroll(self, batch: EpisodeBatch) -> Float[Tensor, "F N A"]:
        """Values at every frame of every episode of the batch."""
        last_actions = torch.full_like(batch["actions"], NO_ACTION)
        last_actions[batch.step_frames + 1] = batch.steps("actions")
        x = self._encode(batch.obs, last_actions)
        values: Tensor = self.head(gru_unroll(self.recurrence, x, batch.time_major))
        return values

    def _encode(
        self, obs: Float[Tensor, "K N ..."], last_actions: Int[Tensor, "K N"]
    ) -> Float[Tensor, "K N H"]:
        inputs = [obs.reshape(*obs.shape[:2], -1)]  # an observation may be a single number
        if self.last_action:
            one_hot = functional.one_hot(last_actions + 1, self.n_actions + 1)[..., 1:]
            inputs.append(one_hot.to(obs.dtype))
        if self.agent_id:
            ids = torch.eye(self.n_agents, dtype=obs.dtype, device=obs.device)
            inputs.append(ids.expand(len(obs), -1, -1))
        return torch.relu(self.encoder(torch.cat(inputs, dim=-1)))
