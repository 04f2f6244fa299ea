"""How a learner that models its partners acts: for one agent of each episode, in its seat.

Where the learner has no seat, the actions of these policies mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from endmark.algorithms.omg.network import ModellingActor
from endmark.algorithms.omg.prior import sample
from endmark.algorithms.omg.view import GoalOf, View, of_seen
from endmark.episodes import Seen
from endmark.ops import categorical
from endmark.policies.memory import renew_
from endmark.policies.random import explored


class ActorInSeats:
    """The actor in K environments: its outputs frame by frame, and what it remembers.

    generator: draws the codes from the belief; None: a code is its mean, and nothing is drawn.
    """

    def __init__(
        self, actor: ModellingActor, n_envs: int, goal_of: GoalOf, generator: torch.Generator | None
    ) -> None:
        self.actor, self.goal_of, self.generator = actor, goal_of, generator
        self._start, self._memory = actor.start(n_envs), actor.start(n_envs)
        self._device = next(actor.parameters()).device

    def outputs(self, seen: Seen) -> tuple[View, Float[Tensor, "K A"]]:
        """What the learner sees, and an output for each action; the memory goes on."""
        seen = seen.to(self._device)
        view = of_seen(seen, self.goal_of)
        renew_(self._memory, self._start, seen.first)
        features, belief, self._memory = self.actor.advance(view, self._memory)
        code = belief.code
        if self.generator is not None and belief.log_var is not None:
            code = sample(code, belief.log_var, self.generator)
        return view, self.actor.head(features, code)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the memory; the generator is its owner's."""
        return {name: tensor.clone() for name, tensor in self._memory.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._memory = {name: state[name].to(self._device, copy=True) for name in self._start}


class ModellingPolicy:
    """ε-greedy by outputs that read a code of the partners. A `Policy`, to be seated beside partners.

    exploring: draw the code from the belief, and actions with probability ε; else the code is its mean, and
    nothing is drawn.
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
        self.seats = ActorInSeats(actor, n_envs, goal_of, generator if exploring else None)
        self.generator, self.epsilon_at, self.epsilon = generator, epsilon_at, 0.0

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent, by the one that the learner acts for."""
        with torch.inference_mode():
            view, outputs = self.seats.outputs(seen)
            actions = torch.where(view.avail_actions, outputs, -torch.inf).argmax(1)
            actions = explored(actions, view.avail_actions, self.epsilon, self.generator)
        return {"actions": for_all(actions, seen)}

    def schedule(self, env_steps: int) -> dict[str, float]:
        """Set ε."""
        if self.epsilon_at is None:
            return {}
        self.epsilon = self.epsilon_at(env_steps)
        return {"epsilon": self.epsilon}

    def state_dict(self) -> dict[str, Any]:
        """Memory, generator and ε."""
        memory = self.seats.state_dict()
        return {"memory": memory, "generator": self.generator.get_state(), "epsilon": self.epsilon}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.seats.load_state_dict(state["memory"])
        self.generator.set_state(state["generator"])
        self.epsilon = float(state["epsilon"])


class ModellingSoftmax:
    """Draws from the softmax of outputs that read a code of the partners. A `Policy`, to be seated.

    Also gives `log_prob` [K, N], the log-probability of the learner's action in every agent's place.

    draw_codes: draw the code from the belief, rather than take its mean.
    """

    def __init__(
        self,
        actor: ModellingActor,
        n_envs: int,
        goal_of: GoalOf,
        generator: torch.Generator,
        *,
        draw_codes: bool,
    ) -> None:
        self.seats = ActorInSeats(actor, n_envs, goal_of, generator if draw_codes else None)
        self.generator = generator

    def act(self, seen: Seen) -> dict[str, Tensor]:
        """An action for each agent, by the one that the learner acts for, and its log-probability."""
        with torch.inference_mode():
            view, logits = self.seats.outputs(seen)
            log_probs = categorical.log_softmax(logits, view.avail_actions)
            actions = categorical.sample(log_probs, self.generator)
            taken = categorical.log_prob(log_probs, actions)
        return {"actions": for_all(actions, seen), "log_prob": for_all(taken, seen)}

    def schedule(self, env_steps: int) -> dict[str, float]:  # noqa: ARG002
        """Nothing changes over time."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Memory and generator."""
        return {"memory": self.seats.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.seats.load_state_dict(state["memory"])
        self.generator.set_state(state["generator"])


def for_all(values: Tensor, seen: Seen) -> Tensor:
    """What is given for the learner, [K], in the place of every agent, [K, N]: its seat is one of them."""
    return values[:, None].expand(-1, seen.alive.shape[1]).clone()
