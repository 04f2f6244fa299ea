"""QATTEN: the team's value is a sum of the agents' values, weighted by the state's attention to them.

    Q(t)      = c(s) + Σ_h w_h(s) Σ_i λ_ih(s) Q_i(u_i)
    target(t) = return of the reward and the target network's Q(t+1) under greedy actions
    loss      = mean over real steps of (target(t) - Q(t))²

The weights are those of `QattenMixer`. The authors' penalty on large scores of the attention is left out.

Yang et al. (2020), arXiv:2002.03939.
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
from endmark.nets import QattenMixer


@dataclass(frozen=True)
class QattenConfig(ValueConfig):
    """Value decomposition: the team's value is a weighted sum of the agents' values, by attention."""

    mixer_embed_size: int = 32
    """Numbers of a query and of a key, in each head."""
    mixer_hyper_size: int = 64
    """Hidden units of the networks that read the state."""
    mixer_heads: int = 4
    """Heads of the attention."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "mixer_embed_size", "mixer_hyper_size", "mixer_heads")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> QattenLearner:
        """The learner, untrained."""
        return QattenLearner(spec, self, device)


class QattenLearner(ValueLearner):
    """Learns an `actor` and a `mixer`. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: QattenConfig, device: torch.device | str = "cpu") -> None:
        online = nn.ModuleDict({"actor": actor_of(spec, config)})
        online["mixer"] = QattenMixer(
            spec,
            embed_size=config.mixer_embed_size,
            hyper_size=config.mixer_hyper_size,
            heads=config.mixer_heads,
        )
        super().__init__(spec, config, online, device)
        self.config = config

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, the scalars of `QattenConfig.METRICS`."""
        steps, successors = batch.step_frames, batch.step_frames + 1
        read = self.read(batch)
        q_taken = self.actor.head.chosen(read.features, batch.actions_taken)[steps]  # [S, N]
        taken = self.online["mixer"](q_taken, batch, steps)
        with torch.no_grad():
            next_q = self.target_actor.head.chosen(read.target_features, read.best)[successors]
            next_value = self.target["mixer"](next_q, batch, successors)
        return td_terms(batch, taken, self.target_return(batch, next_value))

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step."""
        self.take_in_rewards(team_reward(batch))
        return self.step(self.loss(batch))
