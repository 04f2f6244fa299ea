"""What an environment looks like to endmark."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from endmark.episodes import EpisodeSpec


class Frame(NamedTuple):
    """What is seen at one frame. Arrays are read before the next `step`, so they may be reused.

    obs: [N, ...] float32, one row an agent; zeros for an agent that has left.
    avail_actions: [N, A] bool, the legal actions; every agent that is alive has one at least,
        except at a frame after which nothing follows.
    alive: [N] bool, the agents that still take part.
    state: [...] float32, the global state for centralised training, where there is one.
    """

    obs: npt.NDArray[np.float32]
    avail_actions: npt.NDArray[np.bool_]
    alive: npt.NDArray[np.bool_]
    state: npt.NDArray[np.float32] | None = None


class Step(NamedTuple):
    """What came of the agents' actions.

    frame: what is seen next, also after the last step.
    reward: float32, shared, or [N] float32, one an agent, as the spec says. The team's is their sum, so an
        agent that has left gets 0.
    terminated: the MDP ended; nothing follows, nothing is bootstrapped.
    truncated: the episode was cut off here; what follows still has a value. Never both: an episode that
        ends at the very step where it would have been cut has terminated.
    """

    frame: Frame
    reward: npt.NDArray[np.float32] | np.float32
    terminated: bool = False
    truncated: bool = False


@runtime_checkable
class Environment(Protocol):
    """An environment for one team of agents with discrete actions.

    `spec` tells shapes and the longest episode, which the environment keeps to: it terminates or
    truncates by itself. `reset` with a seed starts a reproducible sequence of episodes; without one it
    goes on with the sequence. `step` takes one action an agent, [N] int64; the actions of agents that
    have left are ignored. `endmark.envs.check` tries all of this on an environment of yours.
    """

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of what this environment gives."""
        ...

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame."""
        ...

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Act, and return what came of it."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...
