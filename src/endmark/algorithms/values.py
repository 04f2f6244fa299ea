"""What several learners share: rewards of the team and of each agent, means, gradients, learning rates."""

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
    """The mean of the values that count, 0 where none does; None: of all."""
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


def backward_(
    loss: Float[Tensor, ""], groups: Sequence[Sequence[Tensor]], max_norm: float
) -> list[Float[Tensor, ""]]:
    """Give each parameter its gradient of the loss, each group's scaled down to `max_norm`; the norms before.

    Parameters of no group are left as they are.
    """
    parameters = [parameter for group in groups for parameter in group]
    gradients = iter(torch.autograd.grad(loss, parameters))
    norms = []
    for group in groups:
        own = [next(gradients) for _ in group]
        norms.append(clip_(own, max_norm))
        for parameter, gradient in zip(group, own, strict=True):
            parameter.grad = gradient
    return norms


def anneal_(optimiser: torch.optim.Optimizer, updates: int, over: int) -> None:
    """Set the learning rates for the update after this many: they fall to 0 over `over`; 0: they stay."""
    if over == 0:
        return
    left = max(0.0, 1 - updates / over)
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("first_lr", group["lr"]) * left
