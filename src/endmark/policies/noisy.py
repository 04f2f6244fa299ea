"""Vectors that a network gives, with noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from endmark.episodes import Bounds, Seen
from endmark.nets import Actor
from endmark.ops.gaussian import within
from endmark.policies.memory import ActorMemory


class NoisyPolicy:
    """tanh of the actor's outputs, and normal noise, clipped to the bounds. A `Policy`.

    noise_at: the noise's standard deviation after so many environment steps, where the bounds are -1 and 1;
        None for no noise, and then nothing is drawn.
    """

    def __init__(
        self,
        actor: Actor,
        n_envs: int,
        bounds: Bounds,
        generator: torch.Generator,
        noise_at: Callable[[int], float] | None = None,
    ) -> None:
        self.memory = ActorMemory(actor, n_envs)
        self.generator, self.noise_at = generator, noise_at
        self._low, self._high = bounds.tensors(self.memory.device)
        self.noise = 0.0

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent."""
        with torch.inference_mode():
            features = self.memory.features(seen.to(self.memory.device))
            u = self.memory.actor.head.outputs(features).tanh()
            if self.noise > 0:  # drawn on the CPU, so that a seed means the same on every device
                u = u + self.noise * torch.randn(u.shape, generator=self.generator).to(u.device)
            actions = within(u, self._low, self._high)
        return {"actions": actions.clone()}

    def schedule(self, env_steps: int) -> dict[str, float]:
        """Set the noise."""
        if self.noise_at is None:
            return {}
        self.noise = self.noise_at(env_steps)
        return {"noise": self.noise}

    def state_dict(self) -> dict[str, Any]:
        """Memory, generator and the noise."""
        generator = self.generator.get_state()
        return {"memory": self.memory.state_dict(), "generator": generator, "noise": self.noise}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.generator.set_state(state["generator"])
        self.noise = float(state["noise"])
