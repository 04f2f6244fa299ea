"""Policies that are written, not learned. Any function like these is a partner: `module:function`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int, Real
from torch import Tensor

from endmark.episodes import Seen
from endmark.policies.random import random_legal
from endmark.wording import joined, one_line, shown

Script = Callable[[Seen, torch.Generator], Real[Tensor, "K N *D"]]
"""From a frame and a generator of random numbers to an action for each agent. It remembers nothing."""


class Scripted:
    """Acts by a function. A `Policy`. The function's draws come from the generator. name: in errors."""

    def __init__(self, script: Script, generator: torch.Generator, name: str | None = None) -> None:
        self.script, self.generator = script, generator
        self.name = getattr(script, "__name__", "script") if name is None else name

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent.

        ValueError, which names the script, if it raises anything, gives no integers [K, N], or gives an agent
        that it acts for an action that is not legal. Where actions are vectors: no finite numbers [K, N, D].
        """
        try:
            actions = self.script(seen, self.generator)
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            said = joined(error) if isinstance(error, ValueError) else one_line(error)
            raise ValueError(f"partner {self.name}: {said}") from error
        if seen.avail_actions is None:
            self._check_vectors(actions, seen)
            return {"actions": actions.to(torch.float32)}
        self._check(actions, seen)
        return {"actions": actions.to(torch.int64)}

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.generator.set_state(state["generator"])

    def _check_vectors(self, actions: Any, seen: Seen) -> None:
        self._check_shape(actions, seen.last_actions.shape)
        if not actions.is_floating_point() or not actions.isfinite().all():
            raise ValueError(f"partner {self.name}: given other than finite floats, want vectors as actions")

    def _check_shape(self, actions: Any, want: torch.Size) -> None:
        if not isinstance(actions, Tensor) or actions.shape != want:
            given = f"shape {tuple(actions.shape)}" if isinstance(actions, Tensor) else shown(actions)
            raise ValueError(f"partner {self.name}: given {given}, want actions of shape {tuple(want)}")

    def _check(self, actions: Any, seen: Seen) -> None:
        legal = seen.legal
        n_actions = legal.shape[2]
        self._check_shape(actions, legal.shape[:2])
        if actions.dtype == torch.bool or actions.is_floating_point() or actions.is_complex():
            raise ValueError(f"partner {self.name}: given {actions.dtype}, want integers: actions")
        # An agent that has left, or whose episode is over, has no legal action, and may be given any.
        acts = seen.alive & legal.any(-1)
        if seen.seats is not None:
            acts = acts & seen.seats.learns
        chosen = actions.to(legal.device, torch.int64)
        exists = (chosen >= 0) & (chosen < n_actions)
        is_legal = legal.gather(2, chosen.clamp(0, n_actions - 1)[..., None])[..., 0]
        if (wrong := acts & ~(exists & is_legal)).any():
            k, n = wrong.nonzero()[0].tolist()
            wants = ", ".join(map(str, legal[k, n].nonzero()[:, 0].tolist()))
            where = f"environment {k}, agent {n}"
            raise ValueError(
                f"partner {self.name}: {where}: given action {int(chosen[k, n])}, want one of {wants}"
            )


def random(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Every legal action is equally likely."""
    return random_legal(seen.legal.cpu(), generator)


def nearest_food(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Level-Based Foraging: walk to the nearest food and load it. Of two steps there one is drawn.

    Reads the environment's own observations, with agents' levels in them. ValueError for another's.
    """
    return _forage(seen, generator, nearest=True)


def farthest_food(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Level-Based Foraging: walk to the farthest food and load it, or any that lies beside the way.

    Once on its way it keeps to foods that its last step brought nearer. Without that it would turn round as
    soon as another one is farther, and get to none.
    """
    return _forage(seen, generator, nearest=False)


LOAD = 5
STEPS = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
"""Level-Based Foraging's actions: stay, north, south, west, east as (row, column); the next one loads."""


def _forage(seen: Seen, generator: torch.Generator, *, nearest: bool) -> Int[Tensor, "K N"]:
    obs, legal = seen.obs.cpu(), seen.legal.cpu()
    n_agents = obs.shape[1]
    if obs.ndim != 3 or obs.shape[2] % 3 or obs.shape[2] < 3 * n_agents or legal.shape[2] != LOAD + 1:
        given = f"observations of shape {tuple(obs.shape[2:])} and {legal.shape[2]} actions"
        raise ValueError(f"given {given}, want those of Level-Based Foraging: threes of numbers, 6 actions")
    things = obs.view(*obs.shape[:2], -1, 3)  # foods, itself, the others: row, column, level
    foods, own = things[:, :, :-n_agents], things[:, :, -n_agents, None]
    is_there = foods[..., 2] > 0
    distance = (foods[..., :2] - own[..., :2]).abs().sum(-1)  # [K, N, foods]
    if nearest:
        sought = torch.where(is_there, distance, torch.inf)
    else:
        last = seen.last_actions.cpu()
        step = STEPS[torch.where((last > 0) & (last < LOAD), last, 0)][:, :, None]  # [K, N, 1, 2]
        before = (foods[..., :2] - own[..., :2] + step).abs().sum(-1)
        ahead = is_there & (distance < before)
        sought = torch.where(torch.where(ahead.any(-1, keepdim=True), ahead, is_there), -distance, torch.inf)
    goal = sought.argmin(-1, keepdim=True)
    away = (foods[..., :2] - own[..., :2]).gather(2, goal[..., None].expand(-1, -1, -1, 2))  # [K, N, 1, 2]
    after = (away - STEPS).abs().sum(-1)  # [K, N, 5], the distance after each step
    helps = legal[..., :LOAD] & (after < after[..., :1]) & is_there.any(-1, keepdim=True)
    walk = torch.where(helps.any(-1), random_legal(helps, generator), random_legal(legal, generator))
    beside = (is_there & (distance == 1)).any(-1) & legal[..., LOAD]
    return torch.where(beside, LOAD, walk)
