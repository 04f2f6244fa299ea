"""Counterfactual multi-agent policy gradients: what did an agent's action add to what the others did?

    A_n(t) = Q_n(t, u_n(t)) - Σ_a π_n(a) Q_n(t, a)      the baseline is over legal actions
    policy = -mean log π_n(u_n(t)) ρ_n(t) A_n(t)
    value  = ½ mean (Q_n(t, u_n(t)) - G(t))²
    loss   = policy + value - c mean H(π_n(t))

Q_n(t, a) is the team's value of the joint action in which agent n does a and the others do what they did.
G is the λ-return of the team's reward under the slow copy of the critic; the value of a frame there is the
mean of Q_n over the agents that act. Nobody acts at the final frame of an episode that was cut off. There it
is the mean of Σ_a π_n(a) Q_n(a), where the others do what they would do most likely. ρ is as in A2C.

The team goes on when an agent leaves, and so does G. Means are over real steps and the agents alive there.

Foerster et al. (2018), arXiv:1705.08926.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from endmark.algorithms import actor_critic_settings
from endmark.algorithms.actor_critic import ActorCritic, normalised, policy_gradient
from endmark.algorithms.actor_critic_settings import OnPolicySettings
from endmark.algorithms.agent_settings import TeamSettings
from endmark.algorithms.distributions import Categorical, check_numbered
from endmark.algorithms.learner import check_ranges
from endmark.algorithms.values import mean, team_reward
from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, CounterfactualCritic
from endmark.ops.categorical import entropy, log_prob, log_softmax
from endmark.targets import lambda_return


@dataclass(frozen=True)
class COMAConfig(OnPolicySettings, TeamSettings):
    """Counterfactual policy gradients, with a critic that sees the state and what the others do."""

    batch_size: int = 8
    """Episodes an update; each is used in one update only."""
    td_lambda: float = 0.8
    """Mix of n-step returns in the critic's target: 0 is the one-step target, 1 the Monte Carlo return."""
    target_tau: float = 0.01
    """The share of the way that the critic's slow copy goes at every update."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **actor_critic_settings.POLICY_METRICS,
        "q_taken": "mean value of the actions taken",
        "baseline": "mean value of what the policy would do, in the place of one agent at a time",
        "log_prob_drift": "mean |log π now - log π when the action was taken|; 0 if no update came between",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, td_lambda=(0, 1), target_tau=(0, 1))

    def learner(self, spec: EpisodeSpec, device: torch.device) -> COMALearner:
        """The learner, untrained."""
        return COMALearner(spec, self, device)


class Networks(nn.Module):
    """An actor, a critic, and the critic's slow copy."""

    def __init__(self, spec: EpisodeSpec, config: COMAConfig) -> None:
        super().__init__()
        check_numbered(spec)
        self.actor = Actor.of(spec, n_outputs=spec.n_actions, **config.actor_options())
        self.critic = CounterfactualCritic(spec, hidden_size=config.hidden_size)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)


class COMALearner(ActorCritic[Networks]):
    """Learns a policy and its critic, one optimiser step a batch. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: COMAConfig, device: torch.device | str = "cpu") -> None:
        super().__init__(spec, config, Networks(spec, config), Categorical(), device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `COMAConfig.METRICS`."""
        config, networks, steps = self.config, self.networks, batch.step_frames
        learning, taken = batch.learning[steps], batch.steps("actions")
        joint = torch.where(batch.alive, batch.actions_taken, NO_ACTION)
        log_probs = log_softmax(networks.actor(batch), batch.avail_actions)  # [F, N, A]
        with torch.no_grad():
            target = self._target(batch, joint, log_probs)[:, None]
        q = networks.critic(batch, joint)[steps]
        q_taken = of_actions(q, taken)
        log_probs = log_probs[steps]

        baseline = expected(q.detach(), log_probs.detach())
        advantage = torch.where(learning, q_taken.detach() - baseline, 0.0)
        if config.normalise_advantage:
            advantage = normalised(advantage, learning)
        log_taken, acted = log_prob(log_probs, taken), batch.steps("log_prob")
        policy_loss, drift = policy_gradient(log_taken, acted, advantage, learning)
        td_error = torch.where(learning, target - q_taken, 0.0)
        value_loss = 0.5 * mean(td_error.square(), learning)
        entropy_mean = mean(entropy(log_probs), learning)
        return {
            "loss": policy_loss + value_loss - config.entropy_coef * entropy_mean,
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy_mean.detach(),
            "value_target": mean(target.expand_as(learning), learning),
            "q_taken": mean(q_taken.detach(), learning),
            "baseline": mean(baseline, learning),
            "log_prob_drift": mean(drift.abs(), learning),
        }

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        metrics = self.loss(batch)
        metrics |= self.step(metrics["loss"])
        metrics["loss"] = metrics["loss"].detach()
        self.updates += 1
        slow: list[Tensor] = list(self.networks.target_critic.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(slow, self._parameters[1], self.config.target_tau)
        return metrics

    def _target(
        self, batch: EpisodeBatch, joint: Int[Tensor, "F N"], log_probs: Float[Tensor, "F N A"]
    ) -> Float[Tensor, " S"]:
        """The λ-return of every step. joint: what all agents did at each frame."""
        acts, final = joint.clone(), batch.final_frames
        acts[final] = torch.where(batch.learning[final], log_probs[final].argmax(-1), NO_ACTION)
        q = self.networks.target_critic(batch, acts)
        value = of_actions(q, acts)
        value[final] = expected(q[final], log_probs[final])
        value = frame_value(value, batch)[batch.step_frames + 1]
        discount = batch.discount(self.config.gamma)
        return lambda_return(team_reward(batch), discount, value, batch.lengths, self.config.td_lambda)


def of_actions(q: Float[Tensor, "*rows A"], actions: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Q of these actions; of action 0 where there is none."""
    return q.gather(-1, actions.clamp(min=0)[..., None])[..., 0]


def expected(q: Float[Tensor, "*rows A"], log_probs: Float[Tensor, "*rows A"]) -> Float[Tensor, "*rows"]:
    """Σ π(a) Q(a) over the legal actions."""
    return torch.where(log_probs > -torch.inf, log_probs.exp() * q, 0.0).sum(-1)


def frame_value(value: Float[Tensor, "F N"], batch: EpisodeBatch) -> Float[Tensor, " F"]:
    """The team's value of each frame: the mean over the agents that learn there, 0 where none does."""
    learning = batch.learning
    return torch.where(learning, value, 0.0).sum(-1) / learning.sum(-1).clamp(min=1)
