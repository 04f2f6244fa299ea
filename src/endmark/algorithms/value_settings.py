"""The settings that algorithms of action values have in common: IQL, VDN, QMIX and those after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from endmark.algorithms.agent_settings import TeamSettings
from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.replay_settings import EpsilonSettings

METRICS: Mapping[str, str] = {
    "loss": "mean squared TD error over real steps (IQL: over agents alive there)",
    "q_taken": "mean value of the actions taken",
    "target": "mean return that these values should have",
    "td_error_abs": "mean absolute difference of the two",
    "grad_norm": "norm of the gradient before it is clipped",
}
"""Metrics of every value algorithm."""


@dataclass(frozen=True)
class ValueConfig(EpsilonSettings, TeamSettings):
    """The settings in common."""

    td_lambda: float = 0.6
    """Mix of n-step returns in the target: 0 is the one-step target, 1 the Monte Carlo return."""
    td_n: int | None = None
    """Steps of the n-step return that is the target in place of the λ-return; None: the λ-return. Only one of
    the two is set."""
    lr: float = 5e-4
    """Adam's learning rate."""
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

    METRICS: ClassVar[Mapping[str, str]] = METRICS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, td_lambda=(0, 1), target_tau=(0, 1))
        check_positive(self, "lr", "target_period", "max_grad_norm")
        if self.target_update not in ("soft", "hard"):
            raise ValueError(f"target_update: given {self.target_update!r}, want 'soft' or 'hard'")
        if self.normalise_reward not in (wants := ("none", "scale", "standardise")):
            raise ValueError(
                f"normalise_reward: given {self.normalise_reward!r}, want one of {', '.join(wants)}"
            )
        if self.td_n is not None:
            check_ranges(self, td_n=(1, float("inf")))
            plain = {field.name: field.default for field in fields(self)}["td_lambda"]
            if self.td_lambda != plain:  # somebody set it, and it would count for nothing
                raise ValueError(
                    f"td_n: given {self.td_n} beside td_lambda {self.td_lambda}, want one of the two"
                )
