"""The settings of a model of the partners, whatever learns beside it, and what is logged of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.omg.models import ModelKind
from endmark.algorithms.omg.selecting import Selector
from endmark.algorithms.omg.subgoals import Reconstruct
from endmark.algorithms.omg.view import GoalOf

MAX_HORIZON = 10


@dataclass(frozen=True)
class ModelSettings:
    """What a learner knows of its partners, and how it is learned."""

    model: ModelKind = "omg"
    """What the learner knows of its partners: nothing (none), an oracle (index, actions), predicted actions
    (naive), an embedding (liam), a subgoal, regressed (supervised) or inferred (omg)."""
    prior: str | None = None
    """Where `endmark fit-prior` put the space of subgoals; for omg and supervised."""
    goal_of: GoalOf = "obs"
    """What a subgoal is a frame of: the learner's observation, or the state."""
    horizon: int = 5
    """A subgoal is one of so many next frames."""
    selector: Selector = "optimistic"
    """Which: of the highest value, of the lowest (conservative), a random one, or always the next one."""
    mix: Literal["input", "target"] = "input"
    """Where eq. (8) acts: in the code that values read, or on what the model is told to infer."""
    mix_start: float = 0.5
    """Share of steps for which the selected subgoal takes the inferred one's place, at first."""
    mix_updates: int = 50_000
    """Updates until that share is 0."""
    kl_weight: float = 1e-3
    """Weight of the KL divergence in the model's loss."""
    reconstruct: Reconstruct = "state"
    """What is decoded from the inferred code: the frame itself, or the selected one."""
    sample_codes: bool = True
    """Draw codes from their Gaussians while learning, rather than take the means."""
    code_size: int = 20
    """Numbers in LIAM's embedding; a subgoal has as many as its prior."""
    model_hidden_size: int = 64
    """Units of the model's layers."""
    model_lr: float = 1e-3
    """Adam's learning rate for the model."""
    max_partners: int = 32
    """For the oracle of the index: members of the largest pool that it can be shown."""

    def __post_init__(self) -> None:
        inf = float("inf")
        check_ranges(self, mix_start=(0, 1), mix_updates=(0, inf), kl_weight=(0, inf))
        check_ranges(self, horizon=(1, MAX_HORIZON))
        check_positive(self, "model_lr", "model_hidden_size", "code_size", "max_partners")
        if self.model in ("omg", "supervised") and self.prior is None:
            raise ValueError(f"prior: given none, want one for model {self.model!r}: `endmark fit-prior`")


METRICS: Mapping[str, str] = {
    "model_loss": "the model's own loss",
    "model_grad_norm": "norm of the model's gradient before it is clipped",
    "reconstruction": "the model's mean squared error: of what it decodes, or of a regressed code",
    "action_loss": "cross-entropy of the others' actions (naive, liam)",
    "kl": "KL of the inferred subgoal from the selected one, in nats (omg)",
    "told": "share of steps whose code was the selected subgoal, eq. (8); with mix 'target', of steps that "
    "taught the model nothing",
    "same_goal": "share of steps whose subgoal is that of the step before",
    "goal_error": "mean squared error of the frame that the inferred code decodes to, by the selected",
    "stay_error": "the same error, if all stayed as they are",
    **{f"chosen_{k}": f"share of steps whose subgoal is {k} ahead" for k in range(1, MAX_HORIZON + 1)},
}
"""Metrics of every model; a model logs those that it has."""
