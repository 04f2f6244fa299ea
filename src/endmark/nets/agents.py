"""The contract of an agent network, and the inputs that agents share.

An agent turns what each agent of a team has seen so far into features. Heads (`endmark.nets.heads`) read the
features. An agent owns its memory: `step` acts on one frame and hands the memory on, `features` gives the
same numbers on all frames of whole episodes at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec, Seen
from endmark.nets.images import AsVector

AgentKind = Literal["gru", "attention", "feedforward"]
"""Which network agents have: a key of `AGENTS`."""
Memory = Mapping[str, Tensor]
"""What an agent remembers from frame to frame: named tensors [K, N, ...]. Empty without memory."""


@runtime_checkable
class Agent(Protocol):
    """A network that every agent of a team acts by. Also an `nn.Module`."""

    n_features: int

    def start(self, n_rows: int) -> Memory:
        """The memory before the first frame of `n_rows` episodes."""
        ...

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Features at one frame of K episodes, and the memory for the next frame.

        `memory` may be written to where no gradient is recorded: go on from what is returned.

        last_actions: `NO_ACTION` at an episode's first frame, where no one-hot input is 1; or vectors, zeros
        there.
        """
        ...

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """Features at every frame of every episode: those of `step`, frame by frame."""
        ...


class Inputs(nn.Module):
    """What an agent's first layer reads: the observation, the last action and the agent's number.

    The last two are one-hot. They are given to the layer as indices and never written out. Observations that
    are images become vectors by convolutions, the only parameters here. An action that is a vector joins the
    observation as it is, in the environment's units.

    obs_shape: of one agent's observation. action_size: numbers of an action that is a vector; 0 where actions
        are numbered.
    """

    ids: Tensor
    """Of each agent, its one-hot input, which comes after those of the last action."""

    def __init__(
        self,
        obs_shape: Sequence[int],
        n_agents: int,
        n_actions: int,
        *,
        last_action: bool,
        agent_id: bool,
        action_size: int = 0,
    ) -> None:
        super().__init__()
        self.obs = AsVector(obs_shape)
        self.n_agents, self.n_actions, self.action_size = n_agents, n_actions, action_size
        self.last_action, self.agent_id = last_action, agent_id
        before = n_actions if last_action else 0
        self.register_buffer("ids", torch.arange(before, before + n_agents), persistent=False)

    @staticmethod
    def of(spec: EpisodeSpec, *, last_action: bool, agent_id: bool) -> Inputs:
        """The inputs of agents that play `spec`. The number of an agent that is alone is left out."""
        return Inputs(
            spec.fields["obs"].shape[1:],
            spec.n_agents,
            spec.n_actions,
            last_action=last_action,
            agent_id=agent_id and spec.n_agents > 1,
            action_size=spec.action_size,
        )

    @property
    def obs_size(self) -> int:
        """The number of inputs that an observation, and a last action that is a vector, become."""
        return self.obs.n_features + self.action_size * self.last_action

    @property
    def size(self) -> int:
        """The number of inputs, one-hot ones included."""
        one_hot = self.n_actions * self.last_action + self.n_agents * self.agent_id
        return self.obs_size + one_hot

    def forward(
        self, obs: Real[Tensor, "K N ..."], last_actions: Real[Tensor, "K N *D"]
    ) -> tuple[Float[Tensor, "K N O"], Int[Tensor, "K N C"] | None]:
        """Observations as vectors, and the indices of the one-hot inputs that are 1; None if none exist."""
        flat, one_hot = self.obs(obs), []
        if self.last_action and self.action_size:
            flat = torch.cat([flat, last_actions], -1)
        elif self.last_action:
            one_hot.append(last_actions)
        if self.agent_id:
            one_hot.append(self.ids.expand(len(obs), -1))
        return flat, torch.stack(one_hot, -1) if one_hot else None
