"""Policies that are written, not learned. Any function like these is a partner: `module:function`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from endmark.episodes import Seen
from endmark.policies.random import random_legal
from endmark.wording import one_line, shown

Script = Callable[[Seen, torch.Generator], Int[Tensor, "K N"]]
"""From a frame and a generator of random numbers to an action for each agent. It remembers nothing."""


class Scripted:
    """Acts by a function. A `Policy`. The function's draws come from the generator."""

    def __init__(self, script: Script, generator: torch.Generator) -> None:
        self.script, self.generator = script, generator

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent. ValueError, of one line, if the function fails or gives no such thing."""
        try:
            actions = self.script(seen, self.generator)
        except Exception as error:  # a foreign function may raise anything
            raise ValueError(f"{self._name}: {one_line(error)}") from error
        want = tuple(seen.alive.shape)
        if not isinstance(actions, Tensor) or actions.shape != want or actions.dtype != torch.int64:
            is_tensor = isinstance(actions, Tensor)
            what = f"{actions.dtype} of shape {tuple(actions.shape)}" if is_tensor else shown(actions)
            raise ValueError(f"{self._name}: given {what}, want torch.int64 of shape {want}, [K, N]")
        return {"actions": actions}

    @property
    def _name(self) -> str:
        return f"{self.script.__module__}:{getattr(self.script, '__qualname__', self.script)}"

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.generator.set_state(state["generator"])


def random(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Every legal action is equally likely."""
    return random_legal(seen.avail_actions.cpu(), generator)


def nearest_food(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Level-Based Foraging: walk to the nearest food and load it. Of two steps there one is drawn."""
    return _forage(seen, generator, nearest=True)


def farthest_food(seen: Seen, generator: torch.Generator) -> Int[Tensor, "K N"]:
    """Level-Based Foraging: walk to the farthest food and load it, or any that lies beside the way."""
    return _forage(seen, generator, nearest=False)


LOAD = 5
STEPS = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
"""Level-Based Foraging's actions: stay, north, south, west, east as (row, column); the next one loads."""


def _forage(seen: Seen, generator: torch.Generator, *, nearest: bool) -> Int[Tensor, "K N"]:
    obs, legal = seen.obs.cpu(), seen.avail_actions.cpu()
    n_agents = obs.shape[1]
    things = obs.view(*obs.shape[:2], -1, 3)  # foods, itself, the others: row, column, level
    foods, own = things[:, :, :-n_agents], things[:, :, -n_agents, None]
    is_there = foods[..., 2] > 0
    distance = (foods[..., :2] - own[..., :2]).abs().sum(-1)  # [K, N, foods]
    sought = distance if nearest else -distance
    goal = torch.where(is_there, sought, torch.inf).argmin(-1, keepdim=True)
    away = (foods[..., :2] - own[..., :2]).gather(2, goal[..., None].expand(-1, -1, -1, 2))  # [K, N, 1, 2]
    after = (away - STEPS).abs().sum(-1)  # [K, N, 5], the distance after each step
    helps = legal[..., :LOAD] & (after < after[..., :1]) & is_there.any(-1, keepdim=True)
    walk = torch.where(helps.any(-1), random_legal(helps, generator), random_legal(legal, generator))
    beside = (is_there & (distance == 1)).any(-1) & legal[..., LOAD]
    return torch.where(beside, LOAD, walk)
