"""What actor-critic learners share: settings, networks, advantages, value targets, the optimiser's step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from endmark.algorithms.agent_settings import AgentSettings
from endmark.algorithms.distributions import Categorical, Distribution, Gaussian
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.values import agent_reward, anneal_, backward_, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field, Fresh, SampleBuffer
from endmark.nets import Actor, CentralCritic, OwnCritic, RunningMoments
from endmark.policies import Policy
from endmark.targets import gae

Nets = TypeVar("Nets", bound=nn.Module)


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
    last_action: bool = True
    """Let an agent see what it did at the step before."""

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
class ActorCriticConfig(ActorCriticSettings):
    """The settings of those that learn for a whole team."""

    critic: Literal["own", "central", "team"] = "own"
    """A value for each agent from its own observations, for each agent from the state, or for the team. A
    value for the team goes on when an agent leaves; an agent's own ends there, and so it fears to."""
    reward: Literal["agent", "team"] = "agent"
    """Whose rewards an agent's return adds up: its own, or the team's (the sum of all agents')."""
    share_parameters: bool = True
    """One network for all agents, rather than one each."""
    agent_id: bool = True
    """Let an agent see which agent it is, where all share one network."""
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


class Networks(nn.Module):
    """An actor, a critic, and the running moments of value targets."""

    def __init__(self, spec: EpisodeSpec, config: ActorCriticConfig, distribution: Distribution) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "kind": config.agent,
            "attention": config.attention,
            "hidden_size": config.hidden_size,
            "last_action": config.last_action,
            "agent_id": config.agent_id,
            "share_parameters": config.share_parameters,
        }
        self.actor = distribution.actor(spec, **options)
        self.critic: OwnCritic | CentralCritic
        if config.critic == "own":
            self.critic = OwnCritic(Actor.of(spec, n_outputs=1, **options))
        else:
            n_values = 1 if config.critic == "team" else spec.n_agents
            self.critic = CentralCritic(
                spec,
                kind=config.agent,
                hidden_size=config.hidden_size,
                n_values=n_values,
                attention=config.attention,
            )
        self.value_moments = RunningMoments()


class Targets(NamedTuple):
    """What to learn, [S, V]: V = N, one an agent, or V = 1, one for the team. In units of the reward.

    counted: False where the agent has left or is a partner's, so that its numbers mean nothing.
    """

    value: Float[Tensor, "S V"]
    advantage: Float[Tensor, "S V"]
    value_target: Float[Tensor, "S V"]
    counted: Bool[Tensor, "S V"]


@torch.no_grad()
def targets_of(batch: EpisodeBatch, networks: Networks, config: ActorCriticConfig) -> Targets:
    """Advantages by GAE, and the λ-returns that the critic should give (Schulman et al. 2016).

    With a value for each agent, an agent's own last step ends its return: nothing beyond it is bootstrapped
    from. With one for the team, the end of the episode does.
    """
    steps = batch.step_frames
    value = networks.critic(batch)  # [F, V]
    if config.normalise_value:
        value = networks.value_moments.restore(value)
    if config.critic == "team":
        discount = batch.discount(config.gamma)[:, None]
        counted = torch.ones_like(discount, dtype=torch.bool)
    else:
        discount, counted = batch.agent_discount(config.gamma), batch.learning[steps]
    reward = agent_reward(batch) if config.reward == "agent" else team_reward(batch)[:, None]
    reward = reward.expand(-1, value.shape[1])
    advantage = gae(reward, discount, value[steps], value[steps + 1], batch.lengths, config.gae_lambda)
    return Targets(value[steps], advantage, advantage + value[steps], counted)


def normalised(advantage: Float[Tensor, "S *V"], counted: Bool[Tensor, "S *V"]) -> Float[Tensor, "S *V"]:
    """The advantages less their mean, over their standard deviation; of those that count."""
    counts = advantage[counted]
    if len(counts) == 0:  # nothing has no mean
        return advantage
    std, mean = torch.std_mean(counts, correction=0)
    return (advantage - mean) / (std + 1e-8)


def distribution_of(spec: EpisodeSpec, config: ActorCriticConfig) -> Distribution:
    """The kind of policy for the actions of this spec."""
    if spec.bounds is None:
        return Categorical()
    log_std = config.log_std, config.log_std_min, config.log_std_max
    return Gaussian(spec.bounds, config.squash, log_std)


class ActorCritic(Generic[Nets]):
    """The parts of an actor-critic learner that do not depend on its loss."""

    def __init__(
        self,
        spec: EpisodeSpec,
        config: OnPolicySettings,
        networks: Nets,
        distribution: Distribution,
        device: torch.device | str,
    ) -> None:
        """networks: with an `actor`, of this distribution, and a `critic`."""
        # What acted is stored with each action: an episode may run on while the weights change.
        self.spec = spec.extend(log_prob=Field((spec.n_agents,), torch.float32, per="step"))
        self.updates = 0
        self.distribution = distribution
        self.networks: Nets = networks.to(device)
        critic = cast(nn.Module, networks.critic)
        self._parameters: list[list[Tensor]] = [list(self.actor.parameters()), list(critic.parameters())]
        groups = [
            {"params": parameters, "lr": lr}
            for parameters, lr in zip(self._parameters, (config.actor_lr, config.critic_lr), strict=True)
        ]
        self.optimiser = torch.optim.Adam(groups, eps=1e-5, fused=True)
        self._max_grad_norm, self._lr_updates = config.max_grad_norm, config.lr_updates

    @property
    def actor(self) -> Actor:
        """The networks that act."""
        return cast(Actor, self.networks.actor)

    def step(self, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
        """One optimiser step down this loss; the norms of both gradients before they are clipped."""
        actor, critic = backward_(loss, self._parameters, self._max_grad_norm)
        anneal_(self.optimiser, self.updates, self._lr_updates)
        self.optimiser.step()
        return {"grad_norm": actor, "critic_grad_norm": critic}

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> Policy:
        """Draw from the policy."""
        return self.distribution.policy(actor, n_envs, generator)

    def greedy_policy(self, n_envs: int) -> Policy:
        """The likeliest legal action, or the mean."""
        return self.distribution.greedy_policy(self.actor, n_envs)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser and the number of updates."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = int(state["updates"])
