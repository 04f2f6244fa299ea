"""What several learners share: rewards of the team and of each agent, means, gradients, rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from endmark.episodes import EpisodeBatch
from endmark.episodes.priorities import of_episodes


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


def reward_of(batch: EpisodeBatch, whose: Literal["agent", "team"]) -> Float[Tensor, "S V"]:
    """The reward of each agent, V = N, or of the team, V = 1."""
    return agent_reward(batch) if whose == "agent" else team_reward(batch)[:, None]


def mean(
    values: Float[Tensor, "S *N"],
    counted: Bool[Tensor, "S *N"] | None = None,
    weight: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, ""]:
    """The mean of the values that count, 0 where none does; None: of all.

    weight: what each value is multiplied by first; the number that it is divided by stays the same.
    """
    if weight is not None:
        values = values * weight.view(-1, *[1] * (values.ndim - 1))
    if counted is None:
        return values.mean()
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


def importance(batch: EpisodeBatch) -> Float[Tensor, " S"] | None:
    """The weight of each step in a loss, that of its episode; None where samples are uniform."""
    return batch.steps("importance") if "importance" in batch.fields else None


@torch.no_grad()
def priority(
    batch: EpisodeBatch, td_error: Float[Tensor, "S *N"], counted: Bool[Tensor, "S *N"] | None = None
) -> dict[str, Tensor]:
    """Of a prioritised sample: `priority` [E], by the TD errors; nothing of a uniform one.

    Where each agent has an error, a step's is their mean over the agents that count.
    """
    if "importance" not in batch.fields:
        return {}
    error = td_error.abs()
    if error.ndim == 2:
        counted = torch.ones_like(error, dtype=torch.bool) if counted is None else counted
        error = torch.where(counted, error, 0.0).sum(1) / counted.sum(1).clamp(min=1)
    return {"priority": of_episodes(error, batch.lengths)}


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
