"""The subgoals of a batch: selected among the next frames, told to a learner, and judged for the log.

Equations by their numbers in Yu et al. (2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from endmark.algorithms.omg.models import Belief, Goal
from endmark.algorithms.omg.prior import sample
from endmark.algorithms.omg.selecting import choose, mixed
from endmark.algorithms.omg.settings import ModelSettings
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import View
from endmark.algorithms.values import mean
from endmark.episodes import EpisodeBatch, ragged

ValueOf = Callable[[Float[Tensor, "S H D"]], Float[Tensor, "S H"]]
"""The learner's values of each step, were the codes of its candidates the goal."""


class Selected(NamedTuple):
    """The subgoal of each step. chosen: which of the next frames, from 0. frames [S]: of the batch."""

    goal: Goal
    chosen: Int[Tensor, " S"]
    frames: Int[Tensor, " S"]


def codes_of(belief: Belief, settings: ModelSettings, draws: torch.Generator) -> Float[Tensor, "R D"]:
    """The codes that a learner reads: drawn where the model gives Gaussians, or their means."""
    if belief.log_var is None or not settings.sample_codes:
        return belief.code
    return sample(belief.code, belief.log_var, draws)


def select(
    batch: EpisodeBatch,
    view: View,
    model: History,
    settings: ModelSettings,
    value_of: ValueOf,
    draws: torch.Generator,
) -> Selected:
    """The subgoal of each step: (6), (7)."""
    # An observation says nothing once its owner has left; the state does.
    present = view.alive if settings.goal_of == "obs" else None
    frames, real = ragged.windows(batch.lengths, settings.horizon, present)
    frames, real = frames.to(batch.device), real.to(batch.device)
    mean_code, log_var = model.prior.encode(view.goal_obs)
    values = value_of(mean_code[frames])
    noise = torch.rand(real.shape, generator=draws).to(batch.device)
    chosen = choose(values, real, settings.selector, noise)
    chosen_frames = frames.gather(1, chosen[:, None])[:, 0]
    has_one = real.any(1) & view.alive[batch.step_frames]
    seen = model.prior.standardised(view.goal_obs[chosen_frames])
    goal = Goal(mean_code[chosen_frames], log_var[chosen_frames], seen, has_one)
    return Selected(goal, chosen, chosen_frames)


def told(
    selected: Selected,
    code: Float[Tensor, "S D"],
    share: float,
    settings: ModelSettings,
    draws: torch.Generator,
) -> tuple[Float[Tensor, "S D"], Goal, dict[str, Tensor]]:
    """Eq. (8), by `settings.mix`: the code that values read, what the model is to infer, numbers to log."""
    goal = selected.goal
    if settings.mix == "target":
        # As the authors' code is reported to do: now and then the model is told to infer what it infers.
        if float(torch.rand((), generator=draws)) < share:
            goal = goal._replace(has_one=torch.zeros_like(goal.has_one))
        return code, goal, {"told": mean((~goal.has_one).float())}
    drawn = sample(goal.mean, goal.log_var, draws) if settings.sample_codes else goal.mean
    uniform = torch.rand(len(code), generator=draws).to(code.device)
    code, is_told = mixed(code, drawn, goal.has_one, share, uniform)
    return code, goal, {"told": is_told.float().mean()}


def diagnostics(
    batch: EpisodeBatch,
    view: View,
    model: History,
    selected: Selected,
    code: Float[Tensor, "S D"],
    horizon: int,
) -> dict[str, Tensor]:
    """How near the inferred code comes to the selected frames, and which these are; numbers to log."""
    goal = selected.goal
    same = torch.zeros_like(goal.has_one)
    same[1:] = selected.frames[1:] == selected.frames[:-1]
    decoded: Tensor = model.prior.decoder(code)
    stay = model.prior.standardised(view.goal_obs[batch.step_frames])
    return {
        "same_goal": mean(same.float(), goal.has_one),
        "goal_error": mean((decoded - goal.features).square().mean(1), goal.has_one),
        "stay_error": mean((stay - goal.features).square().mean(1), goal.has_one),
        **{f"chosen_{k + 1}": mean((selected.chosen == k).float(), goal.has_one) for k in range(horizon)},
    }
