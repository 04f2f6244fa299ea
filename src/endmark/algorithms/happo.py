"""Heterogeneous-agent PPO: agents with networks of their own, updated one after the other.

    M_1(t) = 1,   M_{k+1}(t) = M_k(t) π_new(u_k(t)) / π_old(u_k(t))     for agents k in an order drawn anew
    policy of agent k = -mean min(r_k M_k A, clip(r_k, 1 - ε, 1 + ε) M_k A)

The factor M says how much likelier the agents updated before have made what happened, so that each update
improves the team's policy and not only its own. An agent that has left, or is a partner's, made nothing
likelier: its ratio is left out of M. A, the team's advantage, and the critic's loss are as in MAPPO.

Kuba et al. (2022), arXiv:2109.11251, algorithm 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from endmark.algorithms.ppo import MAPPOConfig, PPOLearner, critic_terms, prepared, with_targets
from endmark.algorithms.proximal import descend, parts_of, surrogate
from endmark.algorithms.values import anneal_, backward_, mean
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, Share


@dataclass(frozen=True)
class HAPPOConfig(MAPPOConfig):
    """MAPPO for agents that share no network, one updated after the other (Kuba et al. 2022)."""

    share: Share = "none"
    """Always none: each agent has a network of its own, and its turn."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **MAPPOConfig.METRICS,
        "grad_norm": "mean norm of an agent's gradient before it is clipped",
        "steps_taken": "optimiser steps of an agent, of the batch; fewer where KL stopped them",
        "factor": "mean distance from 1 of the factor that the last agent was given",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share != "none":
            raise ValueError(f"share: given {self.share!r}, want 'none': HAPPO moves agents one by one")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> HAPPOLearner:
        """The learner, untrained."""
        return HAPPOLearner(spec, self, device)


class HAPPOLearner(PPOLearner):
    """Learns a policy for each agent in turn, and their critic. A `Learner`."""

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The loss before any agent has moved, where each factor is 1: the agents' mean, and the critic's."""
        output = self.networks.critic(batch)
        batch = with_targets(batch, self.networks, self.config, output)
        agents = self._means([self._policy_loss(n, batch) for n in range(self.spec.n_agents)])
        critic = self._critic_loss(batch)
        return agents | critic | {"loss": agents["loss"] + critic["loss"]}

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`epochs` passes over the batch for each agent in turn, and then for the critic."""
        config, networks, generator = self.config, self.networks, self._generator
        batch = prepared(batch, networks, config)
        factor = torch.ones(batch.n_steps, 1, device=batch.device)
        turns = []
        for n in torch.randperm(self.spec.n_agents, generator=generator).tolist():
            before = self._log_prob(n, batch)
            turn = batch.with_steps(factor=factor)
            parts, step = parts_of(turn, config, generator), partial(self._descend, self._own(n))
            turns.append(descend(parts, partial(self._policy_loss, n), step, config.target_kl))
            learning = batch.learning[batch.step_frames][:, n : n + 1]
            turns[-1]["factor"] = (factor - 1).abs().mean()
            factor = carried(factor, before, self._log_prob(n, batch), learning)
        parts, step = parts_of(batch, config, generator), partial(self._descend, networks.critic)
        critic = descend(parts, self._critic_loss, step, None)
        critic["critic_grad_norm"] = critic["grad_norm"]
        self.updates += 1
        agents = self._means(turns)
        return critic | agents | {"loss": agents["loss"] + critic["loss"], "factor": turns[-1]["factor"]}

    def _own(self, n: int) -> Actor:
        return self.actor if self.spec.n_agents == 1 else self.actor.alone(n)

    def _policy_loss(self, n: int, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Agent n's surrogate under the factor of those before it, less its entropy."""
        config, own = self.config, slice(n, n + 1)
        learning = batch.learning[batch.step_frames][:, own]
        log_prob, entropy = self.distribution.terms(self._own(n), batch.agent(n))
        advantage = batch.steps("advantage")
        advantage = advantage if advantage.shape[1] == 1 else advantage[:, own]
        weighted = batch.steps("factor") * advantage if "factor" in batch.fields else advantage
        policy = surrogate(log_prob, batch.steps("log_prob")[:, own], weighted, learning, config.clip)
        entropy_mean = mean(entropy, learning)
        return {
            "loss": policy.loss - config.entropy_coef * entropy_mean,
            "policy_loss": policy.loss.detach(),
            "entropy": entropy_mean.detach(),
            "kl": policy.kl,
            "clip_fraction": policy.clip_fraction,
        }

    def _critic_loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        loss, metrics = critic_terms(batch, self.networks, self.config)
        return metrics | {"loss": loss}

    def _descend(self, network: nn.Module, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
        """One optimiser step of this network alone."""
        (norm,) = backward_(loss, [list(network.parameters())], self.config.max_grad_norm)
        anneal_(self.optimiser, self.updates, self.config.lr_updates)
        self.optimiser.step()
        self.optimiser.zero_grad()  # so that the next network's step leaves this one alone
        return {"grad_norm": norm}

    @torch.no_grad()
    def _log_prob(self, n: int, batch: EpisodeBatch) -> Float[Tensor, "S 1"]:
        return self.distribution.terms(self._own(n), batch.agent(n))[0]

    @staticmethod
    def _means(agents: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([metrics[name] for metrics in agents]).mean() for name in agents[0]}


def carried(
    factor: Float[Tensor, "S 1"],
    before: Float[Tensor, "S 1"],
    after: Float[Tensor, "S 1"],
    learning: Bool[Tensor, "S 1"],
) -> Float[Tensor, "S 1"]:
    """The next agent's factor: this one's, times the change of its probabilities where it acts."""
    return torch.where(learning, factor * (after - before).exp(), factor)
