"""Critics: the value of each frame, from the observations so far or from the global state.

A critic gives [F, V]: V = N values, one an agent, or V = 1, one for the team.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec
from endmark.nets.actor import Actor, make_agent
from endmark.nets.agents import AgentKind, Inputs
from endmark.nets.attention import AttentionOptions
from endmark.nets.images import StateAsVector
from endmark.ops import linear


class OwnCritic(nn.Module):
    """The value of what each agent has observed so far: the actor's architecture with one output.

    The critic of independent learners, such as IPPO (de Witt et al. 2020, arXiv:2011.09533).
    """

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F N"]:
        """One value an agent at every frame."""
        values: Tensor = self.actor(batch)
        return values[..., 0]


class CentralCritic(nn.Module):
    """The value of the global state, for centralised training (Yu et al. 2022, arXiv:2103.01955).

    One network reads the state. Its last layer has an output for each agent, or one for the team. Where the
    spec has no state, all agents' observations side by side stand for it.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        *,
        kind: AgentKind,
        hidden_size: int,
        n_values: int,
        attention: AttentionOptions = AttentionOptions(),
    ) -> None:
        super().__init__()
        self.state = StateAsVector(spec)
        inputs = Inputs((self.state.n_features,), 1, spec.n_actions, last_action=False, agent_id=False)
        self.trunk = make_agent(kind, inputs, hidden_size, attention.within(spec.episode_limit))
        self.head = nn.Linear(hidden_size, n_values)

    def forward(self, batch: EpisodeBatch) -> Float[Tensor, "F V"]:
        """One value an agent, or one for the team, at every frame."""
        state = self.state(batch.state)[:, None]
        last_actions = torch.full((len(state), 1), NO_ACTION, device=state.device)
        return linear(self.head, self.trunk.unroll(state, last_actions, batch.time_major)[:, 0])
