"""Random legal actions, and random vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from endmark.episodes import Bounds, Seen
from endmark.ops.gaussian import within


class RandomPolicy:
    """Every legal action is equally likely, or every vector within its bounds. A `Policy` without memory.

    bounds: of actions that are vectors; None where they are numbered.
    """

    def __init__(self, generator: torch.Generator, bounds: Bounds | None = None) -> None:
        self.generator, self.bounds = generator, bounds

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent."""
        if self.bounds is None:
            return {"actions": random_legal(seen.legal, self.generator)}
        low, high = self.bounds.tensors()
        u = 2 * torch.rand((len(seen.obs), *low.shape), generator=self.generator) - 1
        return {"actions": within(u, low, high)}

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.generator.set_state(state["generator"])


def explored(
    actions: Int[Tensor, "*rows"],
    avail_actions: Bool[Tensor, "*rows A"],
    epsilon: float,
    generator: torch.Generator,
) -> Int[Tensor, "*rows"]:
    """These actions, each with probability ε replaced by a random legal one, which is drawn only if one is.

    Random numbers come from the CPU, so that a seed means the same on every device.
    """
    if epsilon <= 0:
        return actions
    explores = torch.rand(actions.shape, generator=generator).numpy() < epsilon
    if not explores.any():
        return actions
    where, drawn = torch.from_numpy(explores), random_legal(avail_actions, generator)
    return torch.where(where.to(actions.device), drawn.to(actions.device), actions)


def random_legal(avail_actions: Bool[Tensor, "*rows A"], generator: torch.Generator) -> Int[Tensor, "*rows"]:
    """A legal action of each row, each equally likely; 0 where none is legal. On the CPU."""
    noise = torch.rand(avail_actions.shape, generator=generator)
    # By numpy, whose operations on so few numbers take half as long.
    return torch.from_numpy(np.where(avail_actions.cpu().numpy(), noise.numpy(), -1.0).argmax(-1))
