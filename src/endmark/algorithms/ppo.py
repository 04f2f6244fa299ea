"""Proximal policy optimisation on whole episodes: IPPO and MAPPO, which differ in the critic and the reward.

    r(t)   = π(u(t)) / π_when_taken(u(t))
    policy = -mean min(r(t) A(t), clip(r(t), 1 - ε, 1 + ε) A(t))
    value  = ½ mean max((V(t) - G(t))², (clip(V(t), V_old(t) - ε, V_old(t) + ε) - G(t))²)
    loss   = policy + value - c mean H(π(t))

A, the GAE advantage, and G = A + V_old, the value target, are worked out once for a batch, by the critic as
it was before. Then come several epochs over minibatches of whole episodes. Means are over real steps and the
agents alive there.

Schulman et al. (2017), arXiv:1707.06347; de Witt et al. (2020), arXiv:2011.09533, for IPPO; Yu et al. (2022),
arXiv:2103.01955, for MAPPO, its clipped and its normalised value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from endmark.algorithms import actor_critic
from endmark.algorithms.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    normalised,
    policy_terms,
    targets_of,
)
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.values import mean
from endmark.episodes import EpisodeBatch, EpisodeSpec


@dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """The settings that IPPO and MAPPO have in common."""

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

    METRICS: ClassVar[Mapping[str, str]] = {
        **actor_critic.METRICS,
        "kl": "estimate of KL(old policy, new policy), (r - 1) - log r, in nats",
        "clip_fraction": "share of ratios outside 1 - clip .. 1 + clip",
        "steps_taken": "optimiser steps of the batch; fewer than epochs * minibatches where KL stopped them",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, epochs=(1, float("inf")), minibatches=(1, self.batch_size))
        check_positive(self, "clip")
        for name in ("value_clip", "target_kl"):
            if getattr(self, name) is not None:
                check_positive(self, name)

    def learner(self, spec: EpisodeSpec, device: torch.device) -> PPOLearner:
        """The learner, untrained."""
        return PPOLearner(spec, self, device)


@dataclass(frozen=True)
class IPPOConfig(PPOConfig):
    """Independent PPO: each agent's critic sees what the agent sees."""


@dataclass(frozen=True)
class MAPPOConfig(PPOConfig):
    """PPO with a central critic, which sees the state, and the team's reward."""

    critic: Literal["own", "central", "team"] = "team"
    """A value for each agent from its own observations, for each agent from the state, or for the team. A
    value for the team goes on when an agent leaves; an agent's own ends there, and so it fears to."""
    reward: Literal["agent", "team"] = "team"
    """Whose rewards an agent's return adds up: its own, or the team's (the sum of all agents')."""


class PPOLearner(ActorCritic):
    """Learns a policy and its critic, several optimiser steps a batch. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: PPOConfig, device: torch.device | str = "cpu") -> None:
        super().__init__(spec, config, device)
        self.config = config
        # Of the minibatches. Its seed is drawn, as the networks' weights are, from torch's global generator.
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The loss of the first optimiser step, and for the log the scalars of `PPOConfig.METRICS`."""
        return self._loss(self._with_targets(batch))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`epochs` passes over the batch in minibatches, or fewer where KL says so."""
        config = self.config
        if config.normalise_value:
            targets = targets_of(batch, self.networks, config)
            self.networks.value_moments.add(targets.value_target[targets.counted])
        batch = self._with_targets(batch)
        taken: list[dict[str, Tensor]] = []
        for part in self._minibatches(batch):
            metrics = self._loss(part)
            if taken and config.target_kl is not None and metrics["kl"] > 1.5 * config.target_kl:
                break
            taken.append(metrics | self.step(metrics["loss"]))
            taken[-1]["loss"] = metrics["loss"].detach()
        self.updates += 1
        means = {name: torch.stack([metrics[name] for metrics in taken]).mean() for name in taken[0]}
        return means | {"steps_taken": torch.tensor(float(len(taken)))}

    def state_dict(self) -> dict[str, Any]:
        """Also the generator of the minibatches."""
        return super().state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        super().load_state_dict(state)
        self._generator.set_state(state["generator"])

    def _with_targets(self, batch: EpisodeBatch) -> EpisodeBatch:
        """The batch with advantage, value target and old value as step fields, which its parts keep."""
        config, moments = self.config, self.networks.value_moments
        targets = targets_of(batch, self.networks, config)
        advantage, old_value, value_target = targets.advantage, targets.value, targets.value_target
        if config.normalise_advantage:
            advantage = normalised(advantage, targets.counted)
        if config.normalise_value:
            old_value, value_target = moments.standardise(old_value), moments.standardise(value_target)
        return batch.with_steps(advantage=advantage, old_value=old_value, value_target=value_target)

    def _loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        config, networks = self.config, self.networks
        steps = batch.step_frames
        learning = batch.learning[steps]
        old_value, value_target = batch.steps("old_value"), batch.steps("value_target")
        counted = learning if config.critic != "team" else torch.ones_like(old_value, dtype=torch.bool)

        log_prob, entropy = policy_terms(networks.actor, batch)
        advantage = torch.where(learning, batch.steps("advantage"), 0.0)
        log_ratio = torch.where(learning, log_prob - batch.steps("log_prob"), 0.0)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -mean(torch.minimum(ratio * advantage, clipped * advantage), learning)

        value = networks.critic(batch)[steps]
        error = torch.where(counted, value - value_target, 0.0).square()
        if config.value_clip is not None:
            near = old_value + (value - old_value).clamp(-config.value_clip, config.value_clip)
            error = torch.maximum(error, torch.where(counted, near - value_target, 0.0).square())
        value_loss = 0.5 * mean(error, counted)
        entropy_mean = mean(entropy, learning)
        restore = networks.value_moments.restore if config.normalise_value else torch.nn.Identity()
        with torch.no_grad():
            kl = mean((ratio - 1) - log_ratio, learning)
            clip_fraction = mean((ratio != clipped).float(), learning)
        return {
            "loss": policy_loss + value_loss - config.entropy_coef * entropy_mean,
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy_mean.detach(),
            "value": mean(restore(value.detach()), counted),
            "value_target": mean(restore(value_target), counted),
            "kl": kl,
            "clip_fraction": clip_fraction,
        }

    def _minibatches(self, batch: EpisodeBatch) -> list[EpisodeBatch]:
        """For every epoch the parts of the batch in another division and order."""
        n = self.config.minibatches
        if n == 1:
            return [batch] * self.config.epochs
        divisions = (balanced(batch.lengths, n, self._generator) for _ in range(self.config.epochs))
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
