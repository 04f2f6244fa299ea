"""QPLEX: a team value that any values with the same greedy actions can have, and no others.

    Q(t)      = Σ_i Q_i' + Σ_i (λ_i(s, u) - 1) A_i',   A_i' = w_i(s) (Q_i(u_i) - max Q_i) <= 0
    target(t) = return of the reward and the target network's Q(t+1) under greedy actions
    loss      = mean over real steps of (target(t) - Q(t))²

λ may be any positive number for each joint action, so Q is not additive and not monotone in the values of
actions that are not greedy. The weights are those of `QPLEXMixer`.

Wang et al. (2021), arXiv:2008.01062.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from endmark.algorithms.learner import check_positive
from endmark.algorithms.value_learner import ValueLearner, actor_of, td_terms
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.values import team_reward
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.nets import QPLEXMixer


@dataclass(frozen=True)
class QPLEXConfig(ValueConfig):
    """Duplex dueling: the team's best joint action is made of the agents' best; nothing else is assumed."""

    mixer_hyper_size: int = 64
    """Hidden units of the networks that make the mixing weights."""
    mixer_heads: int = 4
    """Heads whose sum is the importance of an agent's advantage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "mixer_hyper_size", "mixer_heads")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> QPLEXLearner:
        """The learner, untrained."""
        return QPLEXLearner(spec, self, device)


class QPLEXLearner(ValueLearner):
    """Learns an `actor` and a `mixer`. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: QPLEXConfig, device: torch.device | str = "cpu") -> None:
        online = nn.ModuleDict({"actor": actor_of(spec, config)})
        online["mixer"] = QPLEXMixer(spec, hyper_size=config.mixer_hyper_size, heads=config.mixer_heads)
        super().__init__(spec, config, online, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `QPLEXConfig.METRICS`."""
        steps, successors, learning = batch.step_frames, batch.step_frames + 1, batch.learning
        head, target_head = self.actor.head, self.target_actor.head
        read = self.read(batch)
        q_taken = head.chosen(read.features, batch.actions_taken)[steps]  # [S, N]
        with torch.no_grad():
            greedy = head.greedy(read.features, batch.avail_actions)
            largest = head.chosen(read.features, greedy)[steps]
        actions = batch.steps("actions")
        taken = self.online["mixer"](q_taken, largest, actions, learning[steps], batch.state, steps)
        with torch.no_grad():
            # The target's own maximum may be at another action than the one that the online network chose.
            greedy = target_head.greedy(read.target_features, batch.avail_actions)
            largest = target_head.chosen(read.target_features, greedy)[successors]
            next_q = target_head.chosen(read.target_features, read.best)[successors]
            best = read.best[successors]
            next_value = self.target["mixer"](
                next_q, largest, best, learning[successors], batch.state, successors
            )
        return td_terms(batch, taken, self.target_return(batch, next_value))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        self.take_in_rewards(team_reward(batch))
        return self.step(self.loss(batch))
