"""Matrix games for two agents: known optima, and no dependencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from endmark.envs.constructing import constructed
from endmark.envs.errors import EnvError
from endmark.envs.importing import near, unknown
from endmark.envs.protocol import Environment, Frame, Step
from endmark.episodes import EpisodeSpec

OVER = -1


class MatrixGame:
    """An `Environment` of a few states, each with a payoff matrix. Both agents see the state, one-hot.

    An episode starts in state 0, and is a function of the actions alone: a seed changes nothing. At the final
    frame `obs` and `state` are zeros.

    payoff: [S, A, A], the reward of the team in each state, by the actions of agent 0 and agent 1.
    successor: [S, A], the state that follows agent 0's action, later than this one; `OVER` ends the episode.
    """

    def __init__(self, payoff: npt.ArrayLike, successor: Sequence[Sequence[int]]) -> None:
        self._payoff = np.asarray(payoff, np.float32)
        self._successor = successor
        n_states, n_actions, _ = self._payoff.shape
        self.spec = EpisodeSpec.of(
            n_agents=2,
            n_actions=n_actions,
            episode_limit=_longest(successor),
            obs_shape=(n_states,),
            state_shape=(n_states,),
        )
        self._one_hot = np.eye(n_states + 1, n_states, dtype=np.float32)  # the last row is OVER's: zeros
        self._legal = np.ones((2, n_actions), np.bool_)
        self._alive = np.ones(2, np.bool_)
        self._state = 0

    def reset(self, seed: int | None = None) -> Frame:  # noqa: ARG002
        """Start in state 0. Every seed gives the same game."""
        self._state = 0
        return self._frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Pay the team, and go to the next state."""
        first, second = actions.tolist()
        reward = self._payoff[self._state, first, second]
        self._state = self._successor[self._state][first]
        return Step(self._frame(), reward, "terminated" if self._state == OVER else None)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _frame(self) -> Frame:
        state = self._one_hot[self._state]
        return Frame(np.stack([state, state]), self._legal, self._alive, state)


def climbing() -> MatrixGame:
    """One step, three actions; penalties surround the best joint action, 11 (Claus & Boutilier 1998)."""
    return MatrixGame([[[11, -30, 0], [-30, 7, 6], [0, 0, 5]]], [[OVER] * 3])


def penalty(k: Any = -100.0) -> MatrixGame:
    """One step, three actions. Two joint actions pay 10; to mix them up costs (Claus & Boutilier 1998).

    k: the penalty, a number that is 0 or less.
    """
    if isinstance(k, bool) or not isinstance(k, int | float) or not -1e6 <= k <= 0:
        raise EnvError(f"k: given {k!r}, want a number from -1e6 to 0")
    payoff = np.array([[[10, 0, k], [0, 2, 0], [k, 0, 10]]], np.float32)
    return MatrixGame(payoff, [[OVER] * 3])


def two_step() -> MatrixGame:
    """Two steps, two actions: agent 0 chooses one of two matrices, which both then play (Rashid et al. 2018).

    The first, state 1, always pays 7; the second, state 2, pays 8 where both take action 1, else 1 or 0. A
    sum of the agents' values cannot be that matrix, so VDN chooses the first: 7. QMIX's can, and gets 8.
    """
    nothing, always, at_best = [[0, 0], [0, 0]], [[7, 7], [7, 7]], [[0, 1], [1, 8]]
    return MatrixGame([nothing, always, at_best], [[1, 2], [OVER, OVER], [OVER, OVER]])


GAMES: dict[str, Callable[..., MatrixGame]] = {
    "climbing": climbing,
    "penalty": penalty,
    "two-step": two_step,
}


def make_game(name: str, _: int | None, kwargs: dict[str, Any]) -> Environment:
    """The game of this name. It has a limit of its own, and `make` cuts it at a lower one."""
    if name not in GAMES:
        raise unknown(f"matrix:{name}", [f"matrix:{game}" for game in near(name, GAMES) or GAMES])
    game = GAMES[name]
    made: MatrixGame = constructed(f"matrix:{name}", game, kwargs, [game])
    return made


def _longest(successor: Sequence[Sequence[int]]) -> int:
    """The most steps of an episode from state 0. A state's successors are later states, so the way ends."""
    steps = [0] * (len(successor) + 1)  # the last one is OVER's
    for state in reversed(range(len(successor))):
        steps[state] = 1 + max(steps[following] for following in successor[state])
    return steps[0]
