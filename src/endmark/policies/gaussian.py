"""Vectors drawn from the distribution that an actor's head gives, or its mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from endmark.episodes import Seen
from endmark.nets import Actor
from endmark.ops import gaussian
from endmark.policies.memory import ActorMemory


class GaussianPolicy:
    """Each agent draws a vector; its log-probability is given as `log_prob` [K, N]. A `Policy`.

    What is given is what the environment gets, in its own units. actor: with a `GaussianHead`.
    """

    def __init__(self, actor: Actor, n_envs: int, generator: torch.Generator) -> None:
        self.memory = ActorMemory(actor, n_envs)
        self.generator = generator

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent, and its log-probability under the weights that act."""
        with torch.inference_mode():
            given = _distribution(self.memory, seen)
            actions = gaussian.sample(given, self.generator)
            taken = gaussian.log_prob(given, actions)
        return {"actions": actions.clone(), "log_prob": taken.clone()}

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Memory and generator."""
        return {"memory": self.memory.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.generator.set_state(state["generator"])


class GaussianMode:
    """Each agent does what its distribution's mean stands for. A `Policy` that draws nothing."""

    def __init__(self, actor: Actor, n_envs: int) -> None:
        self.memory = ActorMemory(actor, n_envs)

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent."""
        with torch.inference_mode():
            actions = gaussian.mode(_distribution(self.memory, seen))
        return {"actions": actions.clone()}

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Memory."""
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.memory.load_state_dict(state["memory"])


def _distribution(memory: ActorMemory, seen: Seen) -> gaussian.Gaussian:
    features: Float[Tensor, "K N H"] = memory.features(seen.to(memory.device))
    return memory.actor.gaussian.distribution(features)
