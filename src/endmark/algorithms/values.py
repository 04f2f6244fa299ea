"""What several losses share: rewards of the team and of each agent, means, clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from endmark.episodes import EpisodeBatch


def team_reward(batch: EpisodeBatch) -> Float[Tensor, " S"]:
    """The team's reward at each step: the shared one, or the sum over the learner's agents that are alive."""
    reward = batch.steps("reward")
    if not batch.spec.reward_per_agent:
        return reward
    return torch.where(batch.learning[batch.step_frames], reward, 0.0).sum(-1)


def agent_reward(batch: EpisodeBatch) -> Float[Tensor, "S N"]:
    """Each agent's reward at each step: its own where it has one, else the team's."""
    reward = batch.steps("reward")
    return reward if batch.spec.reward_per_agent else reward[:, None].expand(-1, batch.spec.n_agents)


def mean(values: Float[Tensor, "S *N"], counted: Bool[Tensor, "S *N"] | None = None) -> Float[Tensor, ""]:
    """The mean of the values that count; None: of all. Where none counts it is 0."""
    if counted is None:
        return values.mean()
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


@torch.no_grad()
def clip_(gradients: Sequence[Tensor], max_norm: float) -> Float[Tensor, ""]:
    """Scale the gradients down in place if their common norm is more than `max_norm`; the norm before."""
    gradients = list(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
