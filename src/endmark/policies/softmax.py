"""Actions drawn from the softmax of an actor's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from endmark.episodes import Seen
from endmark.nets import Actor
from endmark.ops.categorical import log_prob, log_softmax, sample
from endmark.policies.memory import ActorMemory


class SoftmaxPolicy:
    """Each agent draws a legal action; its log-probability is given as `log_prob` [K, N]. A `Policy`.

    gives_log_prob: False for a learner that does not store it.
    """

    def __init__(
        self, actor: Actor, n_envs: int, generator: torch.Generator, *, gives_log_prob: bool = True
    ) -> None:
        self.memory = ActorMemory(actor, n_envs)
        self.generator, self.gives_log_prob = generator, gives_log_prob

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent, and its log-probability under the weights that act."""
        with torch.inference_mode():
            on_device = seen.to(self.memory.device)
            logits = self.memory.actor.head.outputs(self.memory.features(on_device))
            log_probs = log_softmax(logits, on_device.legal)
            actions = sample(log_probs, self.generator)
            taken = log_prob(log_probs, actions)
        given = {"actions": actions.clone()}
        return given | {"log_prob": taken.clone()} if self.gives_log_prob else given

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
