"""Recurrent Q-learning on whole episodes: IQL, VDN and QMIX, which differ in the mixer alone.

    q_i(t)    the agents' values along the episode
    Q(t)      = mix(q_1(t, u_1(t)), .., q_N(t, u_N(t)); state(t))
    target(t) = λ-return of the reward and the target network's Q(t+1) under greedy actions
    loss      = mean over real steps of (target(t) - Q(t))²

IQL has no mixer: each agent has its own return, and the mean is over pairs (step, agent alive at it
that the learner acts for).
Tan (1993); Sunehag et al. (2018), arXiv:1706.05296; Rashid et al. (2018), arXiv:1803.11485.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.algorithms.agent_settings import AgentSettings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.values import agent_reward, anneal_, clip_, mean, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec, Replay, SampleBuffer
from endmark.nets import Actor, QMIXMixer, RunningMoments, VDNMixer
from endmark.policies import EpsilonGreedy, linear_decay
from endmark.targets import lambda_return

Mixer = VDNMixer | QMIXMixer


@dataclass(frozen=True)
class QLearningConfig(AgentSettings):
    """The settings that IQL, VDN and QMIX have in common."""

    gamma: float = 0.99
    """Discount of a step's future."""
    td_lambda: float = 0.6
    """Mix of n-step returns in the target: 0 is the one-step target, 1 the Monte Carlo return."""
    lr: float = 5e-4
    """Adam's learning rate."""
    lr_updates: int = 0
    """Updates until the rate has fallen to 0 in a straight line; 0: it stays as it is."""
    batch_size: int = 32
    """Episodes an update."""
    episodes_per_update: int = 1
    """New episodes between two updates."""
    replay_frames: int = 100_000
    """Frames that the replay holds; the oldest episodes make way."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions from `epsilon_steps` on; before that it falls in a straight line."""
    epsilon_steps: int = 50_000
    """Environment steps until `epsilon_end` is reached."""
    double_q: bool = True
    """Choose the target's greedy actions by the online network (van Hasselt et al. 2016)."""
    target_update: Literal["soft", "hard"] = "soft"
    """How the target network follows: a little at every update, or all at once now and then."""
    target_tau: float = 0.01
    """Soft: the share of the way that the target network goes at every update."""
    target_period: int = 200
    """Hard: updates between two copies."""
    max_grad_norm: float = 10.0
    """Gradients with a larger norm are scaled down to it."""
    normalise_reward: Literal["none", "scale", "standardise"] = "none"
    """By the rewards of all real steps so far: divide by their root mean square, which leaves the order of
    policies as it is; or subtract their mean and divide by their deviation, which may not."""
    share_parameters: bool = True
    """One network for all agents, rather than one each."""
    last_action: bool = True
    """Let an agent see what it did at the step before."""
    agent_id: bool = True
    """Let an agent see which agent it is, where all share one network."""

    METRICS: ClassVar[Mapping[str, str]] = {
        "loss": "mean squared TD error over real steps (IQL: over agents alive there)",
        "q_taken": "mean value of the actions taken",
        "target": "mean λ-return that these values should have",
        "td_error_abs": "mean absolute difference of the two",
        "grad_norm": "norm of the gradient before it is clipped",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        inf = float("inf")
        check_ranges(self, gamma=(0, 1), td_lambda=(0, 1), target_tau=(0, 1))
        check_ranges(self, epsilon_start=(0, 1), epsilon_end=(0, 1), epsilon_steps=(0, inf))
        check_ranges(self, batch_size=(1, inf), episodes_per_update=(1, inf), replay_frames=(1, inf))
        check_ranges(self, lr_updates=(0, inf))
        check_positive(self, "lr", "target_period", "max_grad_norm")
        if self.target_update not in ("soft", "hard"):
            raise ValueError(f"target_update: given {self.target_update!r}, want 'soft' or 'hard'")
        if self.normalise_reward not in (wants := ("none", "scale", "standardise")):
            raise ValueError(
                f"normalise_reward: given {self.normalise_reward!r}, want one of {', '.join(wants)}"
            )

    def mixer(self, spec: EpisodeSpec) -> Mixer | None:  # noqa: ARG002
        """From the agents' values to the team's; None where each stands alone."""
        return None

    def learner(self, spec: EpisodeSpec, device: torch.device) -> QLearner:
        """The learner, untrained."""
        return QLearner(spec, self, device)

    def store(self, spec: EpisodeSpec, generator: torch.Generator, buffer: SampleBuffer | None) -> Replay:
        """A replay that gives a sample for every `episodes_per_update` new episodes."""
        return Replay(
            spec,
            self.replay_frames,
            batch_size=self.batch_size,
            every=self.episodes_per_update,
            generator=generator,
            buffer=buffer,
        )


@dataclass(frozen=True)
class IQLConfig(QLearningConfig):
    """Independent Q-learning: each agent learns a return of its own."""


@dataclass(frozen=True)
class VDNConfig(QLearningConfig):
    """Value decomposition: the team's value is the sum of the agents' values."""

    def mixer(self, spec: EpisodeSpec) -> Mixer:  # noqa: ARG002
        """The sum."""
        return VDNMixer()


@dataclass(frozen=True)
class QMIXConfig(QLearningConfig):
    """Value decomposition: the team's value is monotone in the agents' values, by weights from the state."""

    mixer_embed_size: int = 32
    """Units of the mixing layer."""
    mixer_hyper_size: int = 64
    """Hidden units of the networks that make the mixing weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "mixer_embed_size", "mixer_hyper_size")

    def mixer(self, spec: EpisodeSpec) -> Mixer:
        """The monotone network."""
        return QMIXMixer(spec, embed_size=self.mixer_embed_size, hyper_size=self.mixer_hyper_size)


class QLearner:
    """Learns Q-values from batches of episodes. A `Learner`.

    `online` and `target` hold an `actor` and, for VDN and QMIX, a `mixer` each.
    """

    def __init__(
        self, spec: EpisodeSpec, config: QLearningConfig, device: torch.device | str = "cpu"
    ) -> None:
        self.spec, self.config, self.updates = spec, config, 0
        self.online = nn.ModuleDict()
        self.online["actor"] = Actor.of(
            spec,
            kind=config.agent,
            attention=config.attention,
            hidden_size=config.hidden_size,
            n_outputs=spec.n_actions,
            last_action=config.last_action,
            agent_id=config.agent_id,
            share_parameters=config.share_parameters,
        )
        if (mixer := config.mixer(spec)) is not None:
            self.online["mixer"] = mixer
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.reward_moments = RunningMoments()
        networks = {"online": self.online, "target": self.target, "reward_moments": self.reward_moments}
        self.networks = nn.ModuleDict(networks).to(device)
        self._online: list[Tensor] = list(self.online.parameters())
        self._target: list[Tensor] = list(self.target.parameters())
        self.optimiser = torch.optim.Adam(self._online, lr=config.lr, fused=True)

    @property
    def actor(self) -> Actor:
        """The online networks that act."""
        return cast(Actor, self.online["actor"])

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `QLearningConfig.METRICS`."""
        steps, successors = batch.step_frames, batch.step_frames + 1
        learning, next_learning = batch.learning[steps], batch.learning[successors]
        actor, target_actor = self.actor, cast(Actor, self.target["actor"])
        with torch.no_grad():
            target_features = target_actor.agent.features(batch)  # [F, N, H]
        features = actor.agent.features(batch)
        q_taken = actor.head.chosen(features, batch.actions_taken)[steps]  # [S, N]
        with torch.no_grad():
            if self.config.double_q:
                best = actor.head.greedy(features, batch.avail_actions)  # [F, N]
            else:
                best = target_actor.head.greedy(target_features, batch.avail_actions)
            next_q = target_actor.head.chosen(target_features, best)[successors]  # [S, N]
        if "mixer" in self.online:
            # An agent that has left, or is a partner's, adds nothing to the team. From here on [S].
            counted, discount = None, batch.discount(self.config.gamma)
            q_taken = self.online["mixer"](torch.where(learning, q_taken, 0.0), batch.state, steps)
            with torch.no_grad():
                next_q = self.target["mixer"](
                    torch.where(next_learning, next_q, 0.0), batch.state, successors
                )
        else:
            counted, discount = learning, batch.agent_discount(self.config.gamma)
        reward = self._reward(batch)
        if self.config.normalise_reward == "scale":
            reward = self.reward_moments.scale(reward)
        elif self.config.normalise_reward == "standardise":
            reward = self.reward_moments.standardise(reward)
        target = lambda_return(reward, discount, next_q, batch.lengths, self.config.td_lambda)
        td_error = target - q_taken
        if counted is not None:
            td_error = torch.where(counted, td_error, 0.0)  # before it is squared: the slope of NaN is NaN
        return {
            "loss": mean(td_error.square(), counted),
            "q_taken": mean(q_taken.detach(), counted),
            "target": mean(target, counted),
            "td_error_abs": mean(td_error.detach().abs(), counted),
        }

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        if self.config.normalise_reward != "none":
            reward = self._reward(batch)
            counted = reward if "mixer" in self.online else reward[batch.learning[batch.step_frames]]
            self.reward_moments.add(counted)
        metrics = self.loss(batch)
        gradients = torch.autograd.grad(metrics["loss"], self._online)
        metrics["loss"] = metrics["loss"].detach()
        metrics["grad_norm"] = clip_(gradients, self.config.max_grad_norm)
        for parameter, gradient in zip(self._online, gradients, strict=True):
            parameter.grad = gradient
        anneal_(self.optimiser, self.updates, self.config.lr_updates)
        self.optimiser.step()
        self.updates += 1
        self._follow()
        return metrics

    def policy(self, actor: Actor, n_envs: int, generator: torch.Generator) -> EpsilonGreedy:
        """ε-greedy, with ε falling over time."""
        config = self.config
        epsilon_at = linear_decay(config.epsilon_start, config.epsilon_end, config.epsilon_steps)
        return EpsilonGreedy(actor, n_envs, generator, epsilon_at)

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

    def _reward(self, batch: EpisodeBatch) -> Float[Tensor, "S *N"]:
        return team_reward(batch) if "mixer" in self.online else agent_reward(batch)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the target networks towards the online ones."""
        if self.config.target_update == "soft":
            torch._foreach_lerp_(self._target, self._online, self.config.target_tau)
        elif self.updates % self.config.target_period == 0:
            torch._foreach_copy_(self._target, self._online)
