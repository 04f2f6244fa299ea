"""QTRAN-base: agents' values whose sum is held, by losses, to the greedy action of a free joint value.

    y(t)   = return of the reward and the target network's Q(τ, ū) at t+1
    L_td   = (y - Q(τ, u))²
    L_opt  = (Σ_i Q_i(ū_i) - Q(τ, ū) + V(s))²            ū: the agents' greedy actions
    L_nopt = min(Σ_i Q_i(u_i) - Q(τ, u) + V(s), 0)²
    loss   = mean over real steps of L_td + c_opt L_opt + c_nopt L_nopt

In L_opt and L_nopt Q has no gradient. Where both are 0, ū is Q's best joint action.

Son et al. (2019), arXiv:1905.05408.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from endmark.algorithms import value_settings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.value_learner import ValueLearner, actor_of, td_terms
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.values import importance, mean, team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import JointValue


@dataclass(frozen=True)
class QTRANConfig(ValueConfig):
    """A free joint value, whose best joint action the agents' values are taught: QTRAN-base."""

    opt_coef: float = 1.0
    """Weight of the loss that the agents' sum meets the joint value at the greedy actions."""
    nopt_coef: float = 0.1
    """Weight of the loss that it is nowhere below the joint value."""
    joint_size: int = 64
    """Units of the layers of the joint value."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **value_settings.METRICS,
        "loss": "td_loss + opt_coef * opt_loss + nopt_coef * nopt_loss",
        "q_taken": "mean joint value of the actions taken",
        "td_loss": "mean squared TD error of the joint value, over real steps",
        "opt_loss": "mean square by which the agents' sum misses the joint value at the greedy actions",
        "nopt_loss": "mean square by which it falls short of the joint value at the actions taken",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, opt_coef=(0, float("inf")), nopt_coef=(0, float("inf")))
        check_positive(self, "joint_size")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> QTRANLearner:
        """The learner, untrained."""
        return QTRANLearner(spec, self, device)


class QTRANLearner(ValueLearner):
    """Learns an `actor` and a `joint` value. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: QTRANConfig, device: torch.device | str = "cpu") -> None:
        online = nn.ModuleDict({"actor": (actor := actor_of(spec, config))})
        online["joint"] = JointValue(spec, actor.agent.n_features, size=config.joint_size)
        super().__init__(spec, config, online, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `QTRANConfig.METRICS`."""
        steps, successors = batch.step_frames, batch.step_frames + 1
        learning, state, actions = batch.learning[steps], batch.state, batch.steps("actions")
        head, joint = self.actor.head, cast(JointValue, self.online["joint"])
        read = self.read(batch)
        features, greedy = read.features, head.greedy(read.features, batch.avail_actions)

        taken = joint(features[steps], actions, learning, state, steps)
        with torch.no_grad():
            best = joint(features[steps], greedy[steps], learning, state, steps)
            next_value = self.target["joint"](
                read.target_features[successors],
                read.best[successors],
                batch.learning[successors],
                state,
                successors,
            )
        terms = td_terms(batch, taken, self.target_return(batch, next_value))

        baseline = joint.baseline(state, steps)
        sum_best = torch.where(learning, head.chosen(features, greedy)[steps], 0.0).sum(-1)
        sum_taken = torch.where(learning, head.chosen(features, batch.actions_taken)[steps], 0.0).sum(-1)
        opt_error = sum_best - best + baseline
        nopt_error = (sum_taken - taken.detach() + baseline).clamp(max=0)
        opt_loss = mean(opt_error.square(), weight=importance(batch))
        nopt_loss = mean(nopt_error.square(), weight=importance(batch))
        loss = terms["loss"] + self.config.opt_coef * opt_loss + self.config.nopt_coef * nopt_loss
        losses = {"td_loss": terms["loss"], "opt_loss": opt_loss, "nopt_loss": nopt_loss}
        return terms | {"loss": loss} | {name: term.detach() for name, term in losses.items()}

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        self.take_in_rewards(team_reward(batch))
        return self.step(self.loss(batch))
