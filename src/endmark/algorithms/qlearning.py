"""Recurrent Q-learning on whole episodes: IQL, VDN and QMIX, which differ in the mixer alone.

    q_i(t)    the agents' values along the episode
    Q(t)      = mix(q_1(t, u_1(t)), .., q_N(t, u_N(t)); state(t))
    target(t) = return of the reward and the target network's Q(t+1) under greedy actions
    loss      = mean over real steps of (target(t) - Q(t))²

The return is the λ-return, or the n-step return. IQL has no mixer: each agent has its own return, and the
mean is over pairs (step, agent alive at it that the learner acts for).
Tan (1993); Sunehag et al. (2018), arXiv:1706.05296; Rashid et al. (2018), arXiv:1803.11485.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from endmark.algorithms.learner import check_positive
from endmark.algorithms.value_learner import ValueLearner, actor_of, td_terms
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.values import agent_reward, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import QMIXMixer, VDNMixer

Mixer = VDNMixer | QMIXMixer


@dataclass(frozen=True)
class QLearningConfig(ValueConfig):
    """The settings that IQL, VDN and QMIX have in common."""

    def mixer(self, spec: EpisodeSpec) -> Mixer | None:  # noqa: ARG002
        """From the agents' values to the team's; None where each stands alone."""
        return None

    def learner(self, spec: EpisodeSpec, device: torch.device) -> QLearner:
        """The learner, untrained."""
        return QLearner(spec, self, device)


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


class QLearner(ValueLearner):
    """Learns Q-values from batches of episodes. A `Learner`.

    `online` and `target` hold an `actor` and, for VDN and QMIX, a `mixer` each.
    """

    def __init__(
        self, spec: EpisodeSpec, config: QLearningConfig, device: torch.device | str = "cpu"
    ) -> None:
        online = nn.ModuleDict({"actor": actor_of(spec, config)})
        if (mixer := config.mixer(spec)) is not None:
            online["mixer"] = mixer
        super().__init__(spec, config, online, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `QLearningConfig.METRICS`."""
        steps, successors = batch.step_frames, batch.step_frames + 1
        learning, next_learning = batch.learning[steps], batch.learning[successors]
        read = self.read(batch)
        q_taken = self.actor.head.chosen(read.features, batch.actions_taken)[steps]  # [S, N]
        with torch.no_grad():
            next_q = self.target_actor.head.chosen(read.target_features, read.best)[successors]  # [S, N]
        if "mixer" not in self.online:
            return td_terms(batch, q_taken, self.target_return(batch, next_q), learning)
        # An agent that has left, or is a partner's, adds nothing to the team. From here on [S].
        q_taken = self.online["mixer"](torch.where(learning, q_taken, 0.0), batch.state, steps)
        with torch.no_grad():
            next_q = self.target["mixer"](torch.where(next_learning, next_q, 0.0), batch.state, successors)
        return td_terms(batch, q_taken, self.target_return(batch, next_q))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        if "mixer" in self.online:
            self.take_in_rewards(team_reward(batch))
        else:
            self.take_in_rewards(agent_reward(batch)[batch.learning[batch.step_frames]])
        return self.step(self.loss(batch))
