"""What every learner of action values has: online and target networks, returns, the optimiser's step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from endmark.algorithms.distributions import check_numbered
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.values import (
    agent_reward,
    anneal_,
    backward_,
    importance,
    mean,
    priority,
    team_reward,
)
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, RunningMoments
from endmark.policies import EpsilonGreedy
from endmark.targets import lambda_return, n_step_return


class Read(NamedTuple):
    """What the agents' networks make of a batch's frames.

    features: of the online network. target_features: of the target network, without gradient.
    best: the greedy legal actions, by which the target network is asked for its value.
    """

    features: Float[Tensor, "F N H"]
    target_features: Float[Tensor, "F N H"]
    best: Int[Tensor, "F N"]


def actor_of(spec: EpisodeSpec, config: ValueConfig) -> Actor:
    """Agents with a value for each action. ValueError where actions are vectors."""
    check_numbered(spec)
    return Actor.of(spec, n_outputs=spec.n_actions, **config.actor_options())


def td_terms(
    batch: EpisodeBatch,
    q_taken: Float[Tensor, "S *N"],
    target: Float[Tensor, "S *N"],
    counted: Bool[Tensor, "S *N"] | None = None,
) -> dict[str, Tensor]:
    """The mean squared TD error as `loss`, and without gradient `q_taken`, `target` and `td_error_abs`.

    Of a prioritised sample the loss is weighted, and there is the `priority` of each episode beside.
    """
    td_error = target - q_taken
    if counted is not None:
        td_error = torch.where(counted, td_error, 0.0)  # before it is squared: the slope of NaN is NaN
    return {
        "loss": mean(td_error.square(), counted, importance(batch)),
        "q_taken": mean(q_taken.detach(), counted),
        "target": mean(target, counted),
        "td_error_abs": mean(td_error.detach().abs(), counted),
        **priority(batch, td_error, counted),
    }


class ValueLearner:
    """The parts of a value learner that do not depend on its loss.

    online: an `actor`, and the further networks that learn. `target` is a slow copy of all of it.
    """

    def __init__(
        self, spec: EpisodeSpec, config: ValueConfig, online: nn.ModuleDict, device: torch.device | str
    ) -> None:
        self.spec, self._settings, self.updates = spec, config, 0
        self.online = online
        self.target = copy.deepcopy(online).requires_grad_(False)
        self.reward_moments = RunningMoments()
        networks = {"online": online, "target": self.target, "reward_moments": self.reward_moments}
        self.networks = nn.ModuleDict(networks).to(device)
        self._online: list[Tensor] = list(online.parameters())
        self._target: list[Tensor] = list(self.target.parameters())
        self.optimiser = torch.optim.Adam(self._online, lr=config.lr, fused=True)

    @property
    def actor(self) -> Actor:
        """The online networks that act."""
        return cast(Actor, self.online["actor"])

    @property
    def target_actor(self) -> Actor:
        """Their slow copy."""
        return cast(Actor, self.target["actor"])

    def read(self, batch: EpisodeBatch) -> Read:
        """The features at all frames, and the greedy actions."""
        with torch.no_grad():
            target_features = self.target_actor.agent.features(batch)
        features = self.actor.agent.features(batch)
        if self._settings.double_q:
            best = self.actor.head.greedy(features, batch.avail_actions)
        else:
            best = self.target_actor.head.greedy(target_features, batch.avail_actions)
        return Read(features, target_features, best)

    @torch.no_grad()
    def target_return(self, batch: EpisodeBatch, next_value: Float[Tensor, "S *N"]) -> Float[Tensor, "S *N"]:
        """The return that values should have: the λ-return, or with `td_n` the n-step return.

        next_value: [S] of the team, whose rewards then count, or [S, N] of each agent.
        """
        config, team = self._settings, next_value.ndim == 1
        reward = team_reward(batch) if team else agent_reward(batch)
        if config.normalise_reward == "scale":
            reward = self.reward_moments.scale(reward)
        elif config.normalise_reward == "standardise":
            reward = self.reward_moments.standardise(reward)
        discount = batch.discount(config.gamma) if team else batch.agent_discount(config.gamma)
        if config.td_n is not None:
            return n_step_return(reward, discount, next_value, batch.lengths, config.td_n)
        return lambda_return(reward, discount, next_value, batch.lengths, config.td_lambda)

    def take_in_rewards(self, rewards: Float[Tensor, "..."]) -> None:
        """Add rewards to the running moments, where these are used."""
        if self._settings.normalise_reward != "none":
            self.reward_moments.add(rewards)

    def step(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimiser step down `loss`, after which the target follows; the metrics, without gradient."""
        (norm,) = backward_(metrics["loss"], [self._online], self._settings.max_grad_norm)
        metrics |= {"loss": metrics["loss"].detach(), "grad_norm": norm}
        anneal_(self.optimiser, self.updates, self._settings.lr_updates)
        self.optimiser.step()
        self.updates += 1
        self._follow()
        return metrics

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> EpsilonGreedy:
        """ε-greedy, with ε falling over time."""
        return EpsilonGreedy(actor, n_envs, generator, self._settings.epsilon_at)

    def greedy_policy(self, n_envs: int) -> EpsilonGreedy:
        """Greedy."""
        return EpsilonGreedy(self.actor, n_envs, torch.Generator())

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

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the target networks towards the online ones."""
        if self._settings.target_update == "soft":
            torch._foreach_lerp_(self._target, self._online, self._settings.target_tau)
        elif self.updates % self._settings.target_period == 0:
            torch._foreach_copy_(self._target, self._online)
