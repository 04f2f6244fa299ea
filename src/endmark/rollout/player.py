"""What an actor of a cluster does: it plays whole episodes with a copy of the policy, whenever it is asked.

Its answer is a function of its state, the weights and the request, and has the state that it leaves the actor
in. So an actor that died is replaced by one that does the same. Nothing here knows how an actor is reached:
`endmark.rollout.on_ray` does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.policies import Policy
from endmark.rollout.rollout import Rollout

State = Mapping[str, Any]


class Player(NamedTuple):
    """What an actor plays with. networks: those of the policy. close: of the `n_envs` environments."""

    rollout: Rollout
    policy: Policy
    networks: nn.Module
    n_envs: int
    close: Callable[[], None]


@runtime_checkable
class MakePlayer(Protocol):
    """Makes an actor's player, in the actor."""

    def __call__(self, number: int) -> Player:
        """The player of actor `number`."""
        ...


class Request(NamedTuple):
    """What an actor is asked: to play until as many episodes have ended as it has environments.

    weights: new ones, which have seen so many `updates`; None: those that are there.
    env_steps: of the whole run, by which the policy's schedule goes.
    state: to go on from; None: from where it is.
    """

    weights: Mapping[str, Tensor] | None
    updates: int
    env_steps: int
    state: State | None = None


class Answer(NamedTuple):
    """What an actor gives back.

    episodes: those that ended. seeds: theirs. updates: for each episode, those that the weights had seen
    which acted at its first frame. env_steps: all that this actor has taken. state: that it is in now.
    exact: whether it could go on from the state that it was given.
    """

    episodes: EpisodeBatch
    seeds: list[int]
    updates: list[int]
    env_steps: int
    state: State
    exact: bool


class PlayingActor:
    """Plays until episodes end, whenever it is asked to."""

    def __init__(self, make: MakePlayer, number: int) -> None:
        self._player = make(number)
        self._policy = _Noting(self._player.policy)

    def collect(
        self, weights: Mapping[str, Tensor] | None, updates: int, env_steps: int, state: State | None
    ) -> Answer:
        """Do what a `Request` of these asks for."""
        rollout, policy = self._player.rollout, self._policy
        if weights is not None:
            self._player.networks.load_state_dict(dict(weights))
            policy.updates = updates
        if state is not None:
            policy.load_state_dict(state["policy"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nobody reads them here; `exact` says it
                rollout.load_state_dict(state["rollout"])
        policy.schedule(env_steps)
        episodes: list[EpisodeBatch] = []
        seeds: list[int] = []
        while len(seeds) < self._player.n_envs:
            episodes.append(rollout.collect(policy))
            seeds += rollout.ended_seeds
        return Answer(
            EpisodeBatch.cat(episodes),
            seeds,
            [policy.began.pop(seed) for seed in seeds],
            rollout.env_steps,
            {"rollout": rollout.state_dict(), "policy": policy.state_dict()},
            rollout.exact,
        )

    def close(self) -> None:
        """Close the environments."""
        self._player.close()


class _Noting:
    """A policy that notes by which weights each episode was begun. updates: those that the weights have seen.

    began: from the seeds of the running episodes to `updates` at their first frames.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.updates = 0
        self.began: dict[int, int] = {}

    def act(self, seen: Seen) -> Mapping[str, Tensor]:
        """As the policy acts."""
        for seed in seen.seed[seen.first.to(seen.seed.device)].tolist():
            self.began[seed] = self.updates
        return self._policy.act(seen)

    def schedule(self, env_steps: int) -> Mapping[str, float]:
        """As the policy has it."""
        return self._policy.schedule(env_steps)

    def state_dict(self) -> dict[str, Any]:
        """The policy's, and what was noted."""
        began = [[seed, updates] for seed, updates in self.began.items()]
        return {"policy": self._policy.state_dict(), "began": began}

    def load_state_dict(self, state: State) -> None:
        """Go on from a `state_dict`."""
        self._policy.load_state_dict(state["policy"])
        self.began = {int(seed): int(updates) for seed, updates in state["began"]}
