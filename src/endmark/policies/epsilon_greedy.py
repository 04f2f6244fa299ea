"""ε-greedy actions by the values of an actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from endmark.episodes import Seen
from endmark.nets import Actor
from endmark.policies.memory import ActorMemory
from endmark.policies.random import explored


def linear_decay(start: float, end: float, steps: int) -> Callable[[int], float]:
    """A number that goes in a straight line from `start` to `end` over so many steps, and stays there."""

    def at(env_steps: int) -> float:
        done = min(1.0, env_steps / steps) if steps else 1.0
        return start + done * (end - start)

    return at


class EpsilonGreedy:
    """Each agent takes the legal action of the highest output, or with probability ε a random legal one.

    epsilon_at: ε after so many environment steps; None for always 0. A `Policy`.
    """

    def __init__(
        self,
        actor: Actor,
        n_envs: int,
        generator: torch.Generator,
        epsilon_at: Callable[[int], float] | None = None,
    ) -> None:
        self.memory = ActorMemory(actor, n_envs)
        self.generator, self.epsilon_at = generator, epsilon_at
        self.epsilon = 0.0

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent."""
        with torch.no_grad():
            on_device = seen.to(self.memory.device)
            features = self.memory.features(on_device)
            actions = self.memory.actor.head.greedy(features, on_device.legal)
            actions = explored(actions, seen.legal, self.epsilon, self.generator)
        return {"actions": actions}

    def schedule(self, env_steps: int) -> dict[str, float]:
        """Set ε."""
        if self.epsilon_at is None:
            return {}
        self.epsilon = self.epsilon_at(env_steps)
        return {"epsilon": self.epsilon}

    def state_dict(self) -> dict[str, Any]:
        """Memory, generator and ε."""
        generator = self.generator.get_state()
        return {"memory": self.memory.state_dict(), "generator": generator, "epsilon": self.epsilon}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.generator.set_state(state["generator"])
        self.epsilon = float(state["epsilon"])
