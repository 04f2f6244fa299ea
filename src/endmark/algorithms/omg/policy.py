"""How a learner that models its partners acts: for one agent of each episode, in its seat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from endmark.algorithms.omg.models import Belief
from endmark.algorithms.omg.network import ModellingActor
from endmark.algorithms.omg.prior import sample
from endmark.algorithms.omg.view import GoalOf, View, of_seen
from endmark.episodes import Seen
from endmark.policies.memory import renewed
from endmark.policies.random import random_legal


class ModellingPolicy:
    """ε-greedy by values that read a code of the partners. A `Policy`, to be seated beside partners.

    exploring: draw the code from the belief, and actions with probability ε; else the code is its mean, and
    nothing is drawn. Where the learner has no seat, actions mean nothing.
    """

    def __init__(
        self,
        actor: ModellingActor,
        n_envs: int,
        goal_of: GoalOf,
        generator: torch.Generator,
        epsilon_at: Callable[[int], float] | None = None,
        *,
        exploring: bool = False,
    ) -> None:
        self.actor, self.generator, self.goal_of = actor, generator, goal_of
        self.epsilon_at, self.epsilon, self.exploring = epsilon_at, 0.0, exploring
        self._start = self._memory = actor.start(n_envs)
        self._device = next(actor.parameters()).device

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent, by the one that the learner acts for."""
        with torch.inference_mode():
            view, outputs = self.outputs(seen.to(self._device))
            actions = torch.where(view.avail_actions, outputs, -torch.inf).argmax(1)
            if self.epsilon > 0:
                explores = torch.rand(actions.shape, generator=self.generator) < self.epsilon
                drawn = random_legal(view.avail_actions.cpu(), self.generator)
                actions = torch.where(explores.to(actions.device), drawn.to(actions.device), actions)
        return {"actions": actions[:, None].expand(-1, seen.alive.shape[1]).clone()}

    def outputs(self, seen: Seen) -> tuple[View, Float[Tensor, "K A"]]:
        """What the learner sees, and its values; the memory goes on."""
        view = of_seen(seen, self.goal_of)
        memory = renewed(self._memory, self._start, seen.first)
        features, belief, self._memory = self.actor.advance(view, memory)
        return view, self.actor.head(features, self._code(belief))

    def _code(self, belief: Belief) -> Float[Tensor, "K D"]:
        if not self.exploring or belief.log_var is None:
            return belief.code
        return sample(belief.code, belief.log_var, self.generator)

    def schedule(self, env_steps: int) -> dict[str, float]:
        """Set ε."""
        if self.epsilon_at is None:
            return {}
        self.epsilon = self.epsilon_at(env_steps)
        return {"epsilon": self.epsilon}

    def state_dict(self) -> dict[str, Any]:
        """Memory, generator and ε."""
        memory = {name: tensor.clone() for name, tensor in self._memory.items()}
        return {"memory": memory, "generator": self.generator.get_state(), "epsilon": self.epsilon}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._memory = {name: state["memory"][name].to(self._device) for name in self._start}
        self.generator.set_state(state["generator"])
        self.epsilon = float(state["epsilon"])
