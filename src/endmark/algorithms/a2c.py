"""Advantage actor-critic on whole episodes: IA2C and MAA2C, which differ in the critic and the reward.

    A(t)  = GAE of the reward and the critic's values
    ρ(t)  = min(1, π(u(t)) / π_when_taken(u(t)))
    loss  = -mean log π(u(t)) ρ(t) A(t)  +  ½ mean (V(t) - G(t))²  -  c mean H(π(t))

G = A + V is the value target. It, A and ρ have no gradient. Means are over real steps and the agents alive
there.

ρ is 1 where the newest weights acted, and this is plain A2C. An episode that ran on across an update was
begun by older weights. There ρ keeps an action that has become unlikely from dominating the gradient: it is
the truncated importance weight of V-trace (Espeholt et al. 2018, arXiv:1802.01561).

Mnih et al. (2016), arXiv:1602.01783; Schulman et al. (2016), arXiv:1506.02438. Central critics: Lowe et al.
(2017), arXiv:1706.02275; the names IA2C and MAA2C as in Papoudakis et al. (2021), arXiv:2006.07869.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from endmark.algorithms import actor_critic_settings
from endmark.algorithms.actor_critic import (
    ActorCritic,
    Networks,
    distribution_of,
    normalised,
    policy_gradient,
    take_in_values,
    targets_of,
)
from endmark.algorithms.actor_critic_settings import ActorCriticConfig
from endmark.algorithms.values import mean
from endmark.episodes import EpisodeBatch, EpisodeSpec


@dataclass(frozen=True)
class A2CConfig(ActorCriticConfig):
    """The settings that IA2C and MAA2C have in common."""

    batch_size: int = 8
    """Episodes an update; each is used in one update only."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **actor_critic_settings.METRICS,
        "log_prob_drift": "mean |log π now - log π when the action was taken|; 0 if no update came between",
    }

    def learner(self, spec: EpisodeSpec, device: torch.device) -> A2CLearner:
        """The learner, untrained."""
        return A2CLearner(spec, self, device)


@dataclass(frozen=True)
class IA2CConfig(A2CConfig):
    """Independent advantage actor-critic: each agent's critic sees what the agent sees."""


@dataclass(frozen=True)
class MAA2CConfig(A2CConfig):
    """Advantage actor-critic with a central critic, which sees the state, and the team's reward."""

    critic: Literal["own", "central", "team"] = "team"
    """A value for each agent from its own observations, for each agent from the state, or for the team. A
    value for the team goes on when an agent leaves; an agent's own ends there, and so it fears to."""
    reward: Literal["agent", "team"] = "team"
    """Whose rewards an agent's return adds up: its own, or the team's (the sum of all agents')."""


class A2CLearner(ActorCritic[Networks]):
    """Learns a policy and its critic, one optimiser step a batch. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: A2CConfig, device: torch.device | str = "cpu") -> None:
        distribution = distribution_of(spec, config)
        super().__init__(spec, config, Networks(spec, config, distribution), distribution, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `A2CConfig.METRICS`."""
        return self._loss(batch, self.networks.critic(batch))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        output = self.networks.critic(batch)
        take_in_values(batch, self.networks, self.config, output)
        metrics = self._loss(batch, output)
        metrics |= self.step(metrics["loss"])
        metrics["loss"] = metrics["loss"].detach()
        self.updates += 1
        return metrics

    def _loss(self, batch: EpisodeBatch, output: Float[Tensor, "F V"]) -> dict[str, Tensor]:
        """`loss`, given the critic's output."""
        config, networks = self.config, self.networks
        learning = batch.learning[batch.step_frames]
        targets = targets_of(batch, networks, config, output)
        advantage, value_target = targets.advantage, targets.value_target
        if config.normalise_advantage:
            advantage = normalised(advantage, targets.counted)
        if config.normalise_value:
            value_target = networks.value_moments.standardise(value_target)
        log_prob, entropy = self.distribution.terms(networks.actor, batch)
        value = output[batch.step_frames]
        policy_loss, drift = policy_gradient(log_prob, batch.steps("log_prob"), advantage, learning)
        value_error = torch.where(targets.counted, value - value_target, 0.0)
        value_loss = 0.5 * mean(value_error.square(), targets.counted)
        entropy_mean = mean(entropy, learning)
        return {
            "loss": policy_loss + value_loss - config.entropy_coef * entropy_mean,
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy_mean.detach(),
            "value": mean(targets.value, targets.counted),
            "value_target": mean(targets.value_target, targets.counted),
            "log_prob_drift": mean(drift.abs(), learning),
        }
