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
from jaxtyping import Float
from torch import Tensor

from endmark.algorithms import actor_critic_settings, proximal
from endmark.algorithms.actor_critic import (
    ActorCritic,
    Networks,
    distribution_of,
    normalised,
    take_in_values,
    targets_of,
)
from endmark.algorithms.actor_critic_settings import ActorCriticConfig
from endmark.algorithms.proximal import PPOSettings, descend, parts_of, surrogate, value_loss
from endmark.algorithms.values import mean
from endmark.episodes import EpisodeBatch, EpisodeSpec


@dataclass(frozen=True)
class PPOConfig(PPOSettings, ActorCriticConfig):
    """The settings that IPPO and MAPPO have in common."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **actor_critic_settings.METRICS,
        "kl": "estimate of KL(old policy, new policy), (r - 1) - log r, in nats",
        **proximal.METRICS,
    }

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


class PPOLearner(ActorCritic[Networks]):
    """Learns a policy and its critic, several optimiser steps a batch. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: PPOConfig, device: torch.device | str = "cpu") -> None:
        distribution = distribution_of(spec, config)
        super().__init__(spec, config, Networks(spec, config, distribution), distribution, device)
        self.config = config
        # Of the minibatches. Its seed is drawn, as the networks' weights are, from torch's global generator.
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The loss of the first optimiser step, and for the log the scalars of `PPOConfig.METRICS`."""
        output = self.networks.critic(batch)
        return self._loss(with_targets(batch, self.networks, self.config, output))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`epochs` passes over the batch in minibatches, or fewer where KL says so."""
        config = self.config
        parts = parts_of(prepared(batch, self.networks, config), config, self._generator)
        metrics = descend(parts, self._loss, self.step, config.target_kl)
        self.updates += 1
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Also the generator of the minibatches."""
        return super().state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        super().load_state_dict(state)
        self._generator.set_state(state["generator"])

    def _loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        config, networks = self.config, self.networks
        steps = batch.step_frames
        learning = batch.learning[steps]
        log_prob, entropy = self.distribution.terms(networks.actor, batch)
        policy = surrogate(log_prob, batch.steps("log_prob"), batch.steps("advantage"), learning, config.clip)
        error, metrics = critic_terms(batch, networks, config)
        entropy_mean = mean(entropy, learning)
        return {
            "loss": policy.loss + error - config.entropy_coef * entropy_mean,
            "policy_loss": policy.loss.detach(),
            "entropy": entropy_mean.detach(),
            **metrics,
            "kl": policy.kl,
            "clip_fraction": policy.clip_fraction,
        }


@torch.no_grad()
def prepared(batch: EpisodeBatch, networks: Networks, config: PPOConfig) -> EpisodeBatch:
    """The batch `with_targets`, once its value targets have been taken into the running moments."""
    output = networks.critic(batch)
    take_in_values(batch, networks, config, output)
    return with_targets(batch, networks, config, output)


def with_targets(
    batch: EpisodeBatch, networks: Networks, config: PPOConfig, output: Float[Tensor, "F V"]
) -> EpisodeBatch:
    """The batch with advantage, value target and old value as step fields, which its parts keep.

    output: the critic's on this batch.
    """
    targets = targets_of(batch, networks, config, output)
    advantage, old_value, value_target = targets.advantage, targets.value, targets.value_target
    if config.normalise_advantage:
        advantage = normalised(advantage, targets.counted)
    if config.normalise_value:
        moments = networks.value_moments
        old_value, value_target = moments.standardise(old_value), moments.standardise(value_target)
    return batch.with_steps(advantage=advantage, old_value=old_value, value_target=value_target)


def critic_terms(
    batch: EpisodeBatch, networks: Networks, config: PPOConfig
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The critic's loss on a batch of `with_targets`, and what is logged of it."""
    value, value_target = networks.critic(batch)[batch.step_frames], batch.steps("value_target")
    learning = batch.learning[batch.step_frames]
    counted = learning if config.critic != "team" else torch.ones_like(value, dtype=torch.bool)
    loss = value_loss(value, batch.steps("old_value"), value_target, counted, config.value_clip)
    restore = networks.value_moments.restore if config.normalise_value else torch.nn.Identity()
    return loss, {
        "value_loss": loss.detach(),
        "value": mean(restore(value.detach()), counted),
        "value_target": mean(restore(value_target), counted),
    }
