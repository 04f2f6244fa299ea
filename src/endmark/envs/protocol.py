"""The contract with an environment: `Environment`, and the `Frame` and `Step` that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from endmark.episodes import EpisodeSpec
from endmark.episodes.spec import NO_OUTCOMES

End = Literal["terminated", "truncated"]
"""Why an episode ended: the MDP did, or the episode was cut off."""
Picture = npt.NDArray[np.uint8]
"""Rows of pixels from the top, [H, W, 3]: red, green, blue."""


class Frame(NamedTuple):
    """The observation of all agents at one time step. N agents, A actions, or actions of D numbers.

    The arrays are read before the next `reset` or `step`, so an environment may overwrite them there.

    obs: [N, ...] float32, or uint8 for images, one row per agent; zeros for an agent that has left.
    avail_actions: [N, A] bool, the legal actions. An agent that is alive has at least one, except at the
        final frame of a terminated episode. None where actions are vectors, of which none is illegal.
    alive: [N] bool, the agents that still take part.
    state: [...] float32, or uint8 for an image, the global state for centralised training; None if the
        environment has none.
    """

    obs: npt.NDArray[np.float32 | np.uint8]
    avail_actions: npt.NDArray[np.bool_] | None
    alive: npt.NDArray[np.bool_]
    state: npt.NDArray[np.float32 | np.uint8] | None = None

    @property
    def legal(self) -> npt.NDArray[np.bool_]:
        """The legal actions. ValueError where actions are vectors: who asks chooses among numbered ones."""
        if self.avail_actions is None:
            raise ValueError("avail_actions: given none, as actions are vectors; want numbered actions here")
        return self.avail_actions


def frame_of(fields: Mapping[str, npt.NDArray[Any]]) -> Frame:
    """The frame of these fields, by name."""
    return Frame(fields["obs"], fields.get("avail_actions"), fields["alive"], fields.get("state"))


class Step(NamedTuple):
    """The result of one joint action.

    frame: the next frame. The last step of an episode has one too, its final frame.
    reward: float32, shared by the team, or [N] float32, one per agent: as the spec says. An agent that has
        left gets 0.
    end: why the episode ends with this step; None if it goes on.
        "terminated": the MDP ended. No reward can follow, so nothing is bootstrapped.
        "truncated": the episode was cut off. The final frame still has a value, which is bootstrapped.
        An episode that reaches an end of the MDP at the step limit has terminated.
    outcomes: with an end, a finite number for each of `spec.outcomes`, such as {"win": 1.0}; empty otherwise.
    """

    frame: Frame
    reward: npt.NDArray[np.float32] | np.float32
    end: End | None = None
    outcomes: Mapping[str, float] = NO_OUTCOMES

    @property
    def terminated(self) -> bool:
        """Whether the MDP ended with this step."""
        return self.end == "terminated"

    @property
    def truncated(self) -> bool:
        """Whether the episode was cut off after this step."""
        return self.end == "truncated"


@runtime_checkable
class Environment(Protocol):
    """A game for one team of agents with numbered actions, or with vectors of bounded numbers.

    An episode is a function of its seed and the actions: earlier episodes do not influence it. It ends by
    itself, after at most `spec.episode_limit` steps. `endmark.envs.check` tests all of this.
    """

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of the fields of a frame and a step, and the longest episode."""
        ...

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame. Without a seed, the environment chooses the episode.

        An episode that is still running is abandoned.
        """
        ...

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result.

        actions: [N] int64, or [N, D] float32 within `spec.bounds`. The action of an agent that has left has
        no effect.
        """
        ...

    def close(self) -> None:
        """Release windows, processes and connections. A second call does nothing."""
        ...


class Rendered(Protocol):
    """What `endmark play` needs of an `Environment`, beside the methods of all.

    It may also have `render_fps`, the pictures a second that suit it, and `action_names`, a word for each
    action.
    """

    def render(self) -> Picture:
        """The present frame, drawn. Every picture is as large as the first one, and a new array."""
        ...
