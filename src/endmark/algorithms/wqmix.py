"""Weighted QMIX: a monotone team value, fitted most where a free one, Q*, says that it matters.

    û         the agents' greedy actions
    target(t) = return of the reward and the target network's Q*(t+1, û)
    loss      = mean over real steps of  w(t) (target(t) - Q_tot(t))²  +  (target(t) - Q*(t))²

    OW-QMIX:  w = 1 where target > Q_tot(t),                          else α
    CW-QMIX:  w = 1 where u = û, or target > target network's Q*(t, û),  else α

Q* has agents of its own and a mixer without restriction, for training alone. Where QMIX averages over joint
actions that its form cannot tell apart, weights below 1 keep the bad ones from pulling the best one down.

Rashid et al. (2020), arXiv:2006.10800.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from endmark.algorithms import value_settings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.value_learner import ValueLearner, actor_of, td_terms
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.values import importance, mean, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import Actor, CentralMixer, QMIXMixer

Weighting = Literal["optimistic", "central"]


@dataclass(frozen=True)
class WQMIXConfig(ValueConfig):
    """The settings that both weightings have in common."""

    alpha: float = 0.1
    """Weight of a step that the rule does not favour; 1 is QMIX on the targets of Q*."""
    mixer_embed_size: int = 32
    """Units of the mixing layer."""
    mixer_hyper_size: int = 64
    """Hidden units of the networks that make the mixing weights."""
    central_size: int = 256
    """Units of the layers of Q*'s mixer."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **value_settings.METRICS,
        "loss": "weighted mean squared TD error of the monotone value, and central_loss",
        "central_loss": "mean squared TD error of Q*, over real steps",
        "central_q_taken": "mean value by Q* of the actions taken",
        "weight": "mean weight of the steps",
    }
    WEIGHTING: ClassVar[Weighting]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, alpha=(0, 1))
        check_positive(self, "mixer_embed_size", "mixer_hyper_size", "central_size")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> WQMIXLearner:
        """The learner, untrained."""
        return WQMIXLearner(spec, self, device)


@dataclass(frozen=True)
class OWQMIXConfig(WQMIXConfig):
    """QMIX with optimistic weights: steps count in full that turned out better than their value."""

    WEIGHTING: ClassVar[Weighting] = "optimistic"


@dataclass(frozen=True)
class CWQMIXConfig(WQMIXConfig):
    """QMIX with central weights: steps count in full that are greedy, or better than the greedy ones."""

    WEIGHTING: ClassVar[Weighting] = "central"


class WQMIXLearner(ValueLearner):
    """Learns an `actor` and a `mixer`, and for Q* a `central_actor` and a `central_mixer`. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: WQMIXConfig, device: torch.device | str = "cpu") -> None:
        online = nn.ModuleDict({"actor": actor_of(spec, config)})
        online["mixer"] = QMIXMixer(
            spec, embed_size=config.mixer_embed_size, hyper_size=config.mixer_hyper_size
        )
        online["central_actor"] = actor_of(spec, config)
        online["central_mixer"] = CentralMixer(spec, size=config.central_size)
        super().__init__(spec, config, online, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `WQMIXConfig.METRICS`."""
        steps, learning = batch.step_frames, batch.learning
        read = self.read(batch)
        q_taken = self.actor.head.chosen(read.features, batch.actions_taken)[steps]
        taken = self.online["mixer"](torch.where(learning[steps], q_taken, 0.0), batch.state, steps)
        star = cast(Actor, self.online["central_actor"])
        q_taken = star.head.chosen(star.agent.features(batch), batch.actions_taken)[steps]
        central_taken = self.online["central_mixer"](
            torch.where(learning[steps], q_taken, 0.0), batch.state, steps
        )
        with torch.no_grad():
            slow = cast(Actor, self.target["central_actor"])
            best = torch.where(learning, slow.head.chosen(slow.agent.features(batch), read.best), 0.0)
            next_value = self.target["central_mixer"](best[steps + 1], batch.state, steps + 1)
            target = self.target_return(batch, next_value)
            now = self.target["central_mixer"](best[steps], batch.state, steps)
            if self.config.WEIGHTING == "optimistic":
                weight = optimistic(target, taken, self.config.alpha)
            else:
                as_greedy = (batch.steps("actions") == read.best[steps]) | ~learning[steps]
                weight = central(target, now, as_greedy.all(1), self.config.alpha)
        terms, central_terms = td_terms(batch, taken, target), td_terms(batch, central_taken, target)
        return terms | {
            "loss": mean(weight * (target - taken).square(), weight=importance(batch))
            + central_terms["loss"],
            "central_loss": central_terms["loss"].detach(),
            "central_q_taken": central_terms["q_taken"],
            "weight": mean(weight),
        }

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        self.take_in_rewards(team_reward(batch))
        return self.step(self.loss(batch))


def optimistic(target: Float[Tensor, " S"], taken: Float[Tensor, " S"], alpha: float) -> Float[Tensor, " S"]:
    """OW-QMIX's weights. taken: Q_tot of the actions taken."""
    return torch.where(target > taken, 1.0, alpha)


def central(
    target: Float[Tensor, " S"], greedy: Float[Tensor, " S"], as_greedy: Bool[Tensor, " S"], alpha: float
) -> Float[Tensor, " S"]:
    """CW-QMIX's weights. greedy: the slow Q* of û. as_greedy: whether all agents that learn did as û."""
    return torch.where(as_greedy | (target > greedy), 1.0, alpha)
