"""The pieces of proximal policy optimisation that its learners share.

    surrogate   -mean min(r A, clip(r, 1 - ε, 1 + ε) A),   r = π(u) / π_old(u)
    value       ½ mean max((V - G)², (clip(V, V_old - ε, V_old + ε) - G)²)

A batch is learned from in several epochs, each over minibatches of whole episodes.

Schulman et al. (2017), arXiv:1707.06347; Yu et al. (2022), arXiv:2103.01955, for the clipped value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from endmark.algorithms.actor_critic_settings import ActorCriticSettings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.values import mean
from endmark.episodes import EpisodeBatch


@dataclass(frozen=True)
class PPOSettings(ActorCriticSettings):
    """The settings that PPO's learners have in common."""

    epochs: int = 4
    """Passes over a batch."""
    minibatches: int = 1
    """Parts of a batch, each of whole episodes and about equally many steps; one optimiser step each."""
    clip: float = 0.2
    """The ratio of new to old probabilities is clipped to 1 - clip .. 1 + clip."""
    value_clip: float | None = 0.2
    """A new value is clipped to this distance from the old one, in normalised units; None: not at all."""
    target_kl: float | None = None
    """Stop a batch's epochs once the policy has moved by 1.5 times this, in nats; None: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, epochs=(1, float("inf")), minibatches=(1, self.batch_size))
        check_positive(self, "clip")
        for name in ("value_clip", "target_kl"):
            if getattr(self, name) is not None:
                check_positive(self, name)


METRICS: Mapping[str, str] = {
    "clip_fraction": "share of ratios outside 1 - clip .. 1 + clip",
    "steps_taken": "optimiser steps of the batch; fewer than epochs * minibatches where KL stopped them",
}
"""Metrics of every PPO learner, beside those of actor-critic ones and the policy's KL."""


class Surrogate(NamedTuple):
    """The policy's loss; how far the policy has moved, in nats; the share of ratios that are clipped."""

    loss: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]


def surrogate(
    log_prob: Float[Tensor, "S *N"],
    old_log_prob: Float[Tensor, "S *N"],
    advantage: Float[Tensor, "S *V"],
    counted: Bool[Tensor, "S *N"],
    clip: float,
) -> Surrogate:
    """The clipped surrogate of the actions taken, over those that count."""
    advantage = torch.where(counted, advantage, 0.0)
    log_ratio = torch.where(counted, log_prob - old_log_prob, 0.0)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    loss = -mean(torch.minimum(ratio * advantage, clipped * advantage), counted)
    with torch.no_grad():
        outside = (ratio != clipped).float()
        return Surrogate(loss, moved(log_ratio, counted), mean(outside, counted))


def moved(log_ratio: Float[Tensor, "S *N"], counted: Bool[Tensor, "S *N"]) -> Float[Tensor, ""]:
    """KL of the old policy from the new one by the actions taken, (r - 1) - log r: never negative."""
    log_ratio = torch.where(counted, log_ratio, 0.0)
    return mean((log_ratio.exp() - 1) - log_ratio, counted)


def value_loss(
    value: Float[Tensor, "S *V"],
    old_value: Float[Tensor, "S *V"],
    target: Float[Tensor, "S *V"],
    counted: Bool[Tensor, "S *V"],
    clip: float | None,
) -> Float[Tensor, ""]:
    """Half the mean squared error of the values that count, not less than that of the clipped ones."""
    error = torch.where(counted, value - target, 0.0).square()
    if clip is not None:
        near = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, torch.where(counted, near - target, 0.0).square())
    return 0.5 * mean(error, counted)


def descend(
    parts: Sequence[EpisodeBatch],
    loss: Callable[[EpisodeBatch], dict[str, Tensor]],
    step: Callable[[Float[Tensor, ""]], dict[str, Tensor]],
    target_kl: float | None,
    kl: str = "kl",
) -> dict[str, Tensor]:
    """An optimiser step for each part, until the policy has moved too far: metrics, their means over steps.

    kl: the metric that says how far.
    """
    taken: list[dict[str, Tensor]] = []
    for part in parts:
        metrics = loss(part)
        if taken and target_kl is not None and metrics[kl] > 1.5 * target_kl:
            break
        taken.append(metrics | step(metrics["loss"]))
        taken[-1]["loss"] = metrics["loss"].detach()
    means = {name: torch.stack([metrics[name] for metrics in taken]).mean() for name in taken[0]}
    return means | {"steps_taken": torch.tensor(float(len(taken)))}


def parts_of(batch: EpisodeBatch, settings: PPOSettings, generator: torch.Generator) -> list[EpisodeBatch]:
    """For every epoch the parts of the batch, in another division and order."""
    n = settings.minibatches
    if n == 1:
        return [batch] * settings.epochs
    divisions = (balanced(batch.lengths, n, generator) for _ in range(settings.epochs))
    return [batch.select(part) for division in divisions for part in division]


def balanced(lengths: Tensor, n: int, generator: torch.Generator) -> list[list[int]]:
    """The episodes in n parts of about equally many steps, none of them empty.

    The longest come first, each to the part with the fewest steps so far (Graham 1969); which of equally long
    episodes comes first is drawn. Fewer than n parts if there are fewer episodes.
    """
    shuffled = torch.randperm(len(lengths), generator=generator)
    order = shuffled[torch.argsort(lengths[shuffled], descending=True, stable=True)].tolist()
    parts: list[list[int]] = [[] for _ in range(min(n, len(order)))]
    steps = [0] * len(parts)
    for episode in order:
        least = min(range(len(parts)), key=lambda part: (len(parts[part]) > 0, steps[part]))
        parts[least].append(episode)
        steps[least] += int(lengths[episode])
    return parts
