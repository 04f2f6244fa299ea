"""Settings of algorithms that learn a policy and a critic from episodes just played, and what they log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from endmark.algorithms.agent_settings import AgentSettings, TeamSettings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.episodes import EpisodeSpec, Fresh, SampleBuffer


@dataclass(frozen=True)
class OnPolicySettings(AgentSettings):
    """The settings of all that learn a policy and a critic from episodes just played."""

    gamma: float = 0.99
    """Discount of a step's future."""
    actor_lr: float = 5e-4
    """Adam's learning rate for the policy."""
    critic_lr: float = 5e-4
    """Adam's learning rate for the critic."""
    lr_updates: int = 0
    """Updates until both rates have fallen to 0 in a straight line; 0: they stay as they are."""
    batch_size: int = 16
    """Episodes an update; each is used in one update only."""
    entropy_coef: float = 0.01
    """Weight of the policy's entropy in the loss."""
    max_grad_norm: float = 10.0
    """The actor's gradient, and the critic's, are scaled down to this norm where theirs is larger."""
    normalise_advantage: bool = True
    """Subtract the advantages' mean over the batch's real steps and alive agents, and divide by their std."""

    def __post_init__(self) -> None:
        super().__post_init__()
        inf = float("inf")
        check_ranges(self, gamma=(0, 1), entropy_coef=(0, inf), batch_size=(1, inf), lr_updates=(0, inf))
        check_positive(self, "actor_lr", "critic_lr", "max_grad_norm")

    def store(
        self,
        spec: EpisodeSpec,
        generator: torch.Generator,  # noqa: ARG002
        buffer: SampleBuffer | None,  # noqa: ARG002
    ) -> Fresh:
        """Every episode once, `batch_size` at a time."""
        return Fresh(spec, self.batch_size)


@dataclass(frozen=True)
class ActorCriticSettings(OnPolicySettings):
    """The settings of those whose critic gives values, and whose advantages are GAE's."""

    gae_lambda: float = 0.95
    """Mix of n-step advantages: 0 is the one-step TD error, 1 Monte Carlo (Schulman et al. 2016)."""
    normalise_value: bool = True
    """Let the critic learn value targets less their running mean, over their running std (Yu et al. 2022)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, gae_lambda=(0, 1))


@dataclass(frozen=True)
class ActorCriticConfig(ActorCriticSettings, TeamSettings):
    """The settings of those that learn for a whole team."""

    TAKES_VECTORS: ClassVar[bool] = True

    critic: Literal["own", "central", "team"] = "own"
    """A value for each agent from its own observations, for each agent from the state, or for the team. A
    value for the team goes on when an agent leaves; an agent's own ends there, and so it fears to."""
    reward: Literal["agent", "team"] = "agent"
    """Whose rewards an agent's return adds up: its own, or the team's (the sum of all agents')."""
    squash: Literal["tanh", "clip"] = "clip"
    """How numbers that a policy draws come within their bounds, where actions are vectors."""
    log_std: float = -0.5
    """Of such numbers at the start, where the bounds are -1 and 1: the log of their standard deviation."""
    log_std_min: float = -4.0
    """The least that it becomes."""
    log_std_max: float = 0.5
    """The most that it becomes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, log_std_min=(-10, 2), log_std_max=(-10, 2))
        if not self.log_std_min < self.log_std < self.log_std_max:
            want = f"between log_std_min {self.log_std_min:g} and log_std_max {self.log_std_max:g}"
            raise ValueError(f"log_std: given {self.log_std}, want {want}")
        wanted = [("critic", ("own", "central", "team")), ("reward", ("agent", "team"))]
        for name, wants in [*wanted, ("squash", ("tanh", "clip"))]:
            if (given := getattr(self, name)) not in wants:
                raise ValueError(f"{name}: given {given!r}, want one of {', '.join(wants)}")
        if self.critic == "team" and self.reward == "agent":
            raise ValueError("reward: given 'agent', want 'team', or critic 'own' or 'central': one an agent")


POLICY_METRICS: Mapping[str, str] = {
    "loss": "policy_loss + value_loss - entropy_coef * entropy",
    "policy_loss": "the policy's part of the loss, over real steps and agents alive there",
    "value_loss": "half the mean squared error of the critic, in its normalised units",
    "entropy": "mean entropy of the policy, over legal actions or vectors, in nats",
    "value_target": "mean λ-return that the critic's values should have, in units of the reward",
    "grad_norm": "norm of the actor's gradient before it is clipped",
    "critic_grad_norm": "norm of the critic's gradient before it is clipped",
}
"""Metrics of every learner of a policy and a critic."""
METRICS: Mapping[str, str] = {
    **POLICY_METRICS,
    "value": "mean value that the critic gives, in units of the reward",
}
"""Metrics of those whose critic gives values."""
