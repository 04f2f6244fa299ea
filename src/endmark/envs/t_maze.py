"""A task that needs memory: the way to turn is shown at the first frame, and asked for at the last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from endmark.envs.constructing import constructed
from endmark.envs.errors import EnvError
from endmark.envs.importing import unknown
from endmark.envs.protocol import Environment, Frame, Step
from endmark.episodes import EpisodeSpec

N_AGENTS = 2
FORWARD, LEFT, RIGHT = range(3)
LONGEST = 1_000


class TMaze:
    """An `Environment`: two agents, each in a corridor of its own that ends in a junction (Bakker 2001).

    At the first frame each agent sees its cue, left or right. Then it sees the corridor, and at the junction
    that it is there. The team gets 1 at the last step where both agents turn to the side of their cues, else
    0: who forgets gets 1/4. Forward is the only legal action but at the junction, where left and right are;
    so no action can keep the cue. The cues and the number of steps are drawn from the seed.

    shortest, longest: steps of an episode, each number as likely; 2 <= shortest <= longest <= 1000.

    obs: cue left, cue right, in the corridor, at the junction; zeros at the final frame. state: both agents'
    cues and the share of the steps that is left.
    """

    action_names = ("forward", "left", "right")

    def __init__(self, shortest: Any = 4, longest: Any = 16) -> None:
        for name, given in (("shortest", shortest), ("longest", longest)):
            if isinstance(given, bool) or not isinstance(given, int) or not 2 <= given <= LONGEST:
                raise EnvError(f"{name}: given {given!r}, want an integer from 2 to {LONGEST}")
        if shortest > longest:
            raise EnvError(f"shortest: given {shortest}, want at most {longest}, the longest")
        self._shortest, self._longest = shortest, longest
        self.spec = EpisodeSpec.of(
            n_agents=N_AGENTS, n_actions=3, episode_limit=longest, obs_shape=(4,), state_shape=(5,)
        )
        self._cues = np.zeros(N_AGENTS, np.int64)  # LEFT or RIGHT
        self._steps, self._done = 0, 0

    def reset(self, seed: int | None = None) -> Frame:
        """Draw the cues and the length, and show the cues."""
        draws = np.random.default_rng(seed)
        self._cues = draws.integers(LEFT, RIGHT + 1, N_AGENTS)
        self._steps, self._done = int(draws.integers(self._shortest, self._longest + 1)), 0
        return self._frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Go one step on, or turn."""
        self._done += 1
        over = self._done == self._steps
        reward = np.float32(over and (actions == self._cues).all())
        return Step(self._frame(), reward, "terminated" if over else None)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _frame(self) -> Frame:
        left = self._steps - self._done
        obs = np.zeros((N_AGENTS, 4), np.float32)
        if self._done == 0:
            obs[range(N_AGENTS), self._cues - LEFT] = 1
        elif left > 0:
            obs[:, 3 if left == 1 else 2] = 1
        legal = np.zeros((N_AGENTS, 3), np.bool_)
        legal[:, [LEFT, RIGHT] if left == 1 else [FORWARD]] = True
        cues = np.eye(2, dtype=np.float32)[self._cues - LEFT]
        state = np.append(cues.ravel(), np.float32(left / self._longest))
        return Frame(obs, legal, np.ones(N_AGENTS, np.bool_), state)


def make_memory(name: str, _: int | None, kwargs: dict[str, Any]) -> Environment:
    """The T-maze. It has a limit of its own, and `make` cuts it at a lower one."""
    if name != "t-maze":
        raise unknown(f"memory:{name}", ["memory:t-maze"])
    made: TMaze = constructed("memory:t-maze", TMaze, kwargs, [TMaze])
    return made
