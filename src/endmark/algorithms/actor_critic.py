"""What actor-critic learners share: networks, advantages, value targets, the optimiser's step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from endmark.algorithms.actor_critic_settings import ActorCriticConfig, OnPolicySettings
from endmark.algorithms.distributions import Categorical, Distribution, Gaussian
from endmark.algorithms.values import anneal_, backward_, mean, reward_of
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from endmark.nets import Actor, CentralCritic, OwnCritic, RunningMoments
from endmark.policies import Policy
from endmark.targets import gae

Nets = TypeVar("Nets", bound=nn.Module)


class Networks(nn.Module):
    """An actor, a critic, and the running moments of value targets."""

    def __init__(self, spec: EpisodeSpec, config: ActorCriticConfig, distribution: Distribution) -> None:
        super().__init__()
        options = config.actor_options()
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
def targets_of(
    batch: EpisodeBatch, networks: Networks, config: ActorCriticConfig, output: Float[Tensor, "F V"]
) -> Targets:
    """Advantages by GAE, and the λ-returns that the critic should give (Schulman et al. 2016).

    output: the critic's on this batch.
    With a value for each agent, an agent's own last step ends its return: nothing beyond it is bootstrapped
    from. With one for the team, the end of the episode does.
    """
    steps = batch.step_frames
    value = output.detach()
    if config.normalise_value:
        value = networks.value_moments.restore(value)
    if config.critic == "team":
        discount = batch.discount(config.gamma)[:, None]
        counted = torch.ones_like(discount, dtype=torch.bool)
    else:
        discount, counted = batch.agent_discount(config.gamma), batch.learning[steps]
    reward = reward_of(batch, config.reward).expand(-1, value.shape[1])
    advantage = gae(reward, discount, value[steps], value[steps + 1], batch.lengths, config.gae_lambda)
    return Targets(value[steps], advantage, advantage + value[steps], counted)


def normalised(advantage: Float[Tensor, "S *V"], counted: Bool[Tensor, "S *V"]) -> Float[Tensor, "S *V"]:
    """The advantages less their mean, over their standard deviation; of those that count."""
    counts = advantage[counted]
    if len(counts) == 0:  # nothing has no mean
        return advantage
    std, mean = torch.std_mean(counts, correction=0)
    return (advantage - mean) / (std + 1e-8)


def take_in_values(
    batch: EpisodeBatch, networks: Networks, config: ActorCriticConfig, output: Float[Tensor, "F V"]
) -> None:
    """Add the batch's value targets to the running moments, where these are used.

    output: the critic's on this batch.
    """
    if config.normalise_value:
        targets = targets_of(batch, networks, config, output)
        networks.value_moments.add(targets.value_target[targets.counted])


class PolicyGradient(NamedTuple):
    """The policy's loss, and how far each log-probability has moved since the action was taken; 0 where none
    counts."""

    loss: Float[Tensor, ""]
    drift: Float[Tensor, "S N"]


def policy_gradient(
    log_prob: Float[Tensor, "S N"],
    acted: Float[Tensor, "S N"],
    advantage: Float[Tensor, "S V"],
    counted: Bool[Tensor, "S N"],
) -> PolicyGradient:
    """-mean log π(u) ρ A over what counts, with ρ = min(1, π(u) / π_when_taken(u)), which has no gradient.

    acted: the log-probability when the action was taken.
    """
    drift = torch.where(counted, log_prob.detach() - acted, 0.0)
    weighted = torch.where(counted, drift.exp().clamp(max=1.0) * advantage, 0.0)
    return PolicyGradient(-mean(log_prob * weighted, counted), drift)


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
