"""From Gymnasium spaces to what endmark stores: flat float32 rows and numbered actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from endmark.envs.errors import EnvError

Row = npt.NDArray[np.float32]
Writer = Callable[[Row, Any], None]


def flat_size(space: spaces.Space[Any]) -> int:
    """How many float32 numbers an observation of this space becomes."""
    try:
        size = spaces.flatdim(space)
    except (NotImplementedError, ValueError) as error:
        raise EnvError(f"observation space: given {space}, want one of fixed size, such as a Box") from error
    if size < 1:
        raise EnvError(f"observation space: given {space}, want at least one number")
    return size


def writer(space: spaces.Space[Any]) -> Writer:
    """A function that writes an observation of this space into a row: a Box as it lies in memory, a Discrete
    one-hot, anything else as Gymnasium flattens it.
    """
    if isinstance(space, spaces.Box):
        return _write if len(space.shape) == 1 else _write_ravelled
    if isinstance(space, spaces.Discrete):
        start = int(space.start)

        def one_hot(row: Row, seen: int) -> None:
            row.fill(0.0)
            row[seen - start] = 1.0

        return one_hot

    def flatten(row: Row, seen: object) -> None:
        row[:] = np.asarray(spaces.flatten(space, seen))

    return flatten


def _write(row: Row, seen: npt.ArrayLike) -> None:
    row[:] = seen


def _write_ravelled(row: Row, seen: npt.ArrayLike) -> None:
    row[:] = np.ravel(seen)


def counted_actions(space: spaces.Space[Any]) -> tuple[int, int]:
    """The number of actions, and the number that the environment gives to its first one."""
    if not isinstance(space, spaces.Discrete):
        raise EnvError(
            f"action space: given {space}, want Discrete: endmark acts with one of A numbered actions"
        )
    return int(space.n), int(space.start)


class Team:
    """The agents' spaces, and the buffers that a frame is made of.

    Agents that see or can do less than others get rows as wide as the widest: what is left of an observation
    stays zero, what is left of the actions is never legal.

    obs: [N, D] float32; `rows[n]` is the part that agent n fills, with `write[n]`.
    legal: [N, A] bool, each agent's own actions; constant.
    avail: [N, A] bool, for frames that come with a mask; `masks[n]` is agent n's part.
    starts: [N], the environment's number for action 0.
    """

    def __init__(self, seen: Sequence[spaces.Space[Any]], acted: Sequence[spaces.Space[Any]]) -> None:
        sizes = [flat_size(space) for space in seen]
        counts = [counted_actions(space) for space in acted]
        self.n_agents = len(sizes)
        self.n_actions = max(count for count, _ in counts)
        self.starts = [start for _, start in counts]
        self.obs = np.zeros((self.n_agents, max(sizes)), np.float32)
        self.rows = [row[:size] for row, size in zip(self.obs, sizes, strict=True)]
        self.write = [writer(space) for space in seen]
        self.legal = np.zeros((self.n_agents, self.n_actions), np.bool_)
        for row, (count, _) in zip(self.legal, counts, strict=True):
            row[:count] = True
        self.avail = self.legal.copy()
        self.masks = [row[:count] for row, (count, _) in zip(self.avail, counts, strict=True)]

    def see(self, agent: int, seen: object) -> None:
        """Fill in what this agent sees."""
        self.write[agent](self.rows[agent], seen)

    def restrict(self, agent: int, mask: Iterable[Any]) -> None:
        """Fill in this agent's legal actions."""
        given, row = np.asarray(mask), self.masks[agent]
        if given.shape != row.shape:
            raise EnvError(f"action_mask of agent {agent}: given shape {given.shape}, want {row.shape}")
        row[:] = given
