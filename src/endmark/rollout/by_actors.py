"""From actors that play whole episodes to a rollout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.policies import Policy
from endmark.rollout.player import Answer, Request, State
from endmark.rollout.rollout import warn_of_others

Weights = Mapping[str, Tensor]


@runtime_checkable
class ActorPool(Protocol):
    """Actors that can be asked for episodes, wherever they are."""

    n_actors: int

    def ask(self, number: int, request: Request) -> Any:
        """Let an actor do this; what `answer` waits for."""
        ...

    def answer(self, number: int, asked: Any, stop: Callable[[], bool] = ...) -> Answer | None:
        """Wait for an actor's answer; None if the actor has died, and a new one is in its place.

        `Stopped` if `stop` says True meanwhile. What an environment raises in an actor is raised here.
        """
        ...


class ByActors:
    """Whole episodes from actors, which are asked, and whose answers are taken, in turn. A `Rollout`.

    So which weights act in which episode depends on the calls alone, and on no clock. An actor that dies is
    replaced by one that goes on from its last state: the episodes are those that they would have been.

    spec: what is stored. weights: of what acts. updates: how many it has seen.
    every: weights are sent to an actor when they have seen so many more updates than its own.
    stop: asked while `collect` waits; once it says True, `collect` raises `Stopped`.

    The policy given to `collect` is not asked for actions: each actor has its own, with these weights.

    How old may weights be? Those that an actor plays with when it is asked are at most `every - 1` updates
    behind. Its answer is taken after one answer of each other actor, so what is learned from these comes on
    top, and for an episode that runs on over several answers, what is learned meanwhile.
    """

    def __init__(
        self,
        actors: ActorPool,
        spec: EpisodeSpec,
        weights: Callable[[], Weights],
        updates: Callable[[], int],
        *,
        every: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.spec = spec
        self.env_steps = self.episodes = 0
        self.ended_seeds: list[int] = []
        self.exact = True
        self.metrics: Mapping[str, float] = {"staleness": math.nan}
        self._actors, self._weights, self._updates = actors, weights, updates
        self._every, self._stop = every, stop
        self._begin(actors.n_actors)

    def _begin(self, n_actors: int) -> None:
        self._turn = 0
        self._snapshots: dict[int, Weights] = {}  # by the updates that they have seen
        self._has: list[int | None] = [None] * n_actors  # the snapshot that each actor is to play with
        self._states: list[State | None] = [None] * n_actors  # of each after its last answer
        self._taken = [0] * n_actors  # env_steps of each that were counted
        self._open: list[int | None] = [None] * n_actors  # env_steps of requests that have no answer yet
        # What is there in fact, which no state has: a new actor has neither a snapshot nor a request.
        self._there: list[int | None] = [None] * n_actors
        self._asked: list[Any] = [None] * n_actors

    @property
    def running(self) -> bool:
        """Always: an actor that has died is replaced."""
        return True

    def collect(self, policy: Policy) -> EpisodeBatch:  # noqa: ARG002 - the actors have theirs
        """The episodes that ended at the actor whose turn it is."""
        for number in range(self._actors.n_actors):
            if self._open[number] is None:
                self._open[number] = self.env_steps
                self._choose_weights(number)
            if self._asked[number] is None:
                self._ask(number)
        number = self._turn
        while (answer := self._actors.answer(number, self._asked[number], self._stop)) is None:
            self._there[number] = None
            self._ask(number)
        self._turn = (number + 1) % self._actors.n_actors
        self._open[number] = self._asked[number] = None
        return self._take(number, answer)

    def state_dict(self) -> dict[str, Any]:
        """Counters, and of each actor its weights, its state after its last answer, and its open request.

        Actors that play are left alone: a rollout that loads this asks for the same again.
        """
        return {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "exact": self.exact,
            "turn": self._turn,
            "snapshots": [[updates, dict(weights)] for updates, weights in self._snapshots.items()],
            "has": self._has,
            "states": self._states,
            "taken": self._taken,
            "open": self._open,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a `state_dict`. The actors are new ones, which have not been asked for anything."""
        if (given := len(state["states"])) != self._actors.n_actors:
            raise ValueError(f"load_state_dict: given {given} actors, want {self._actors.n_actors}")
        self._begin(given)
        self.env_steps, self.episodes = int(state["env_steps"]), int(state["episodes"])
        self.exact, self._turn = bool(state["exact"]), int(state["turn"])
        self._snapshots = {int(updates): weights for updates, weights in state["snapshots"]}
        self._has, self._states = list(state["has"]), list(state["states"])
        self._taken, self._open = list(state["taken"]), list(state["open"])

    def _choose_weights(self, number: int) -> None:
        """Give an actor the newest weights, if its own are old enough."""
        updates, has = self._updates(), self._has[number]
        if has is not None and updates - has < self._every:
            return
        if updates not in self._snapshots:
            weights = self._weights().items()
            self._snapshots[updates] = {name: tensor.detach().cpu().clone() for name, tensor in weights}
        self._has[number] = updates
        self._snapshots = {seen: weights for seen, weights in self._snapshots.items() if seen in self._has}

    def _ask(self, number: int) -> None:
        """Send the open request, and with it what the actor does not have."""
        has, env_steps = self._has[number], self._open[number]
        assert has is not None
        assert env_steps is not None
        weights = None if self._there[number] == has else self._snapshots[has]
        state = self._states[number] if self._there[number] is None else None
        self._asked[number] = self._actors.ask(number, Request(weights, has, env_steps, state))
        self._there[number] = has

    def _take(self, number: int, answer: Answer) -> EpisodeBatch:
        if not answer.exact and self.exact:
            self.exact = False
            warn_of_others([number], "actors")
        self._states[number] = answer.state
        self.env_steps += answer.env_steps - self._taken[number]
        self._taken[number] = answer.env_steps
        self.episodes += answer.episodes.n_episodes
        self.ended_seeds = answer.seeds
        now = self._updates()
        ages = [now - updates for updates in answer.updates]
        self.metrics = {"staleness": sum(ages) / len(ages)}
        return answer.episodes
