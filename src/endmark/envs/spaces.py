"""Gymnasium spaces as images, float32 vectors, and actions that are numbered or vectors."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from numpy import ndarray

from endmark.envs.contract import fault
from endmark.envs.errors import EnvError
from endmark.envs.fitting import BOOL, FLOAT32, UINT8, fill, fitted
from endmark.episodes import Bounds
from endmark.episodes.images import image_layout
from endmark.wording import shown

Row = npt.NDArray[Any]
Writer = Callable[[Row, Any], None]


def stored_as(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype in which an array is stored.

    An image stays as it is, in uint8 or else in float32. Everything else becomes a float32 vector.
    """
    if image_layout(shape) is None:
        return (math.prod(shape),), FLOAT32
    return shape, UINT8 if dtype == UINT8 else FLOAT32


def flat_size(space: spaces.Space[Any]) -> int:
    """The length of the float32 vector that an observation of this space becomes."""
    try:
        size = spaces.flatdim(space)
    except (NotImplementedError, ValueError) as error:
        raise EnvError(f"observation space: given {space}, want one of fixed size, such as a Box") from error
    if size < 1:
        raise EnvError(f"observation space: given {space}, want at least one number")
    return size


def writer(space: spaces.Space[Any], where: str) -> Writer:
    """A function that writes an observation of this space into a row.

    A Box is flattened in C order, unless the row is an image like it. A Discrete becomes one-hot, and
    Gymnasium flattens every other space. The function raises `ContractError`, with this place, for what is no
    observation of the space's shape.
    """
    if isinstance(space, spaces.Box):
        shape = space.shape

        return lambda row, obs: fill(row, obs, shape, where)
    if isinstance(space, spaces.Discrete):
        start, n = int(space.start), int(space.n)

        def one_hot(row: Row, obs: Any) -> None:
            try:
                index = operator.index(obs) - start
            except TypeError:
                index = -1
            if not 0 <= index < n:
                raise fault(where, shown(obs), f"a whole number from {start} to {start + n - 1}")
            row.fill(0.0)
            row[index] = 1.0

        return one_hot

    def flatten(row: Row, obs: object) -> None:
        try:
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # in Gymnasium's own casts; infinities are found
                numbers = spaces.flatten(space, obs)
        except Exception as error:  # Gymnasium raises various errors
            raise fault(where, shown(obs), f"an observation of {space}") from error
        fill(row, numbers, row.shape, where)

    return flatten


def counted_actions(space: spaces.Space[Any]) -> tuple[int, int]:
    """The number of actions, and the environment's own number of the first action."""
    if not isinstance(space, spaces.Discrete):
        raise EnvError(
            f"action space: given {space}, want Discrete, or for all agents a Box with finite bounds"
        )
    return int(space.n), int(space.start)


def bounds_of(action_spaces: Sequence[spaces.Space[Any]]) -> Bounds | None:
    """The bounds of actions that are Boxes, flat; None where no space is a Box.

    All agents get as many numbers as the one that has the most. The numbers that an agent does not have are
    always 0. `EnvError` for a Box without finite bounds or of integers, and for a team of both kinds.
    """
    boxes = [space for space in action_spaces if isinstance(space, spaces.Box)]
    if not boxes:
        return None
    if len(boxes) < len(action_spaces):
        raise EnvError("action spaces: given some Boxes and some others, want one kind for all agents")
    for box in boxes:
        if box.dtype is None or box.dtype.kind != "f" or not box.shape or not box.is_bounded("both"):
            raise EnvError(f"action space: given {box}, want a Box of floats with finite bounds")
    size = max(math.prod(box.shape) for box in boxes)
    low, high = (
        tuple(tuple(row.ravel().tolist()) + (0.0,) * (size - row.size) for row in rows)
        for rows in ([box.low for box in boxes], [box.high for box in boxes])
    )
    try:
        return Bounds(low, high)
    except ValueError as error:
        raise EnvError(f"action space: {error}") from error


class Team:
    """The agents' spaces, and the arrays of a frame, which are used again for every frame.

    All agents get rows of the same length, that of the longest observation and of the most actions. The rest
    of a shorter observation stays zero, and actions that an agent does not have are never legal. If all
    agents see images of one shape, rows are images.

    obs: [N, D] float32, or [N, H, W, C] or [N, C, H, W] float32 or uint8. Agent n's observation is `rows[n]`,
        a view of it; `write[n]` fills it.
    bounds: of actions that are vectors, in which case `n_actions` is 0; None where they are numbered.
    sizes: for each agent the numbers of its observation, and of its actions or of an action.
    legal: [N, A] bool, the actions that each agent has; constant.
    avail: [N, A] bool, the legal actions of a frame with an action mask; `masks[n]` is agent n's view.
    starts: [N], the environment's own number of each agent's action 0.
    """

    def __init__(
        self, observation_spaces: Sequence[spaces.Space[Any]], action_spaces: Sequence[spaces.Space[Any]]
    ) -> None:
        shape, dtype = _row(observation_spaces)
        self.bounds = bounds_of(action_spaces)
        counts = [(0, 0) if self.bounds else counted_actions(space) for space in action_spaces]
        self._boxes = [space for space in action_spaces if isinstance(space, spaces.Box)]
        self.n_agents = len(observation_spaces)
        self.n_actions = max(count for count, _ in counts)
        self.starts = [start for _, start in counts]
        self._shifted = any(self.starts)
        acts = [math.prod(box.shape) for box in self._boxes] or [count for count, _ in counts]
        self.sizes = [(flat_size(space), own) for space, own in zip(observation_spaces, acts, strict=True)]
        self.obs: Row = np.zeros((self.n_agents, *shape), dtype)
        is_flat = len(shape) == 1
        self.rows = [
            row[: flat_size(space)] if is_flat else row
            for row, space in zip(self.obs, observation_spaces, strict=True)
        ]
        self._vectors = [
            space.shape if isinstance(space, spaces.Box) and len(space.shape) == 1 else None
            for space in observation_spaces
        ]
        self.write = [writer(space, f"obs, agent {n}") for n, space in enumerate(observation_spaces)]
        self.legal = np.zeros((self.n_agents, self.n_actions), np.bool_)
        for row, (count, _) in zip(self.legal, counts, strict=True):
            row[:count] = True
        self.avail = self.legal.copy()
        self.masks = [row[:count] for row, (count, _) in zip(self.avail, counts, strict=True)]

    def observe(self, agent: int, obs: object) -> None:
        """Write this agent's observation into `obs`."""
        self.write[agent](self.rows[agent], obs)

    def observe_all(self, observations: Iterable[Any]) -> None:
        """Write the observation of each agent into `obs`, as `observe` does: mostly float32 vectors."""
        for row, shape, write, obs in zip(self.rows, self._vectors, self.write, observations, strict=True):
            if type(obs) is ndarray and obs.dtype is FLOAT32 and obs.shape == shape:
                row[:] = obs
            else:
                write(row, obs)

    def actions(self, chosen: npt.NDArray[Any]) -> list[Any]:
        """Each agent's action in its own space: a number, or an array of its Box in memory of its own.

        chosen: [N] or [N, D].
        """
        if self.bounds is None:
            numbers: list[Any] = (chosen + self.starts if self._shifted else chosen).tolist()
            return numbers
        return [
            row[: math.prod(box.shape)].reshape(box.shape).astype(box.dtype)
            for row, box in zip(chosen, self._boxes, strict=True)
        ]

    def restrict(self, agent: int, mask: object) -> None:
        """Write this agent's action mask into `avail`."""
        if self.bounds is not None:
            raise fault(f"action_mask, agent {agent}", shown(mask), "none: actions are vectors")
        row = self.masks[agent]
        row[:] = fitted(mask, row.shape, BOOL, f"action_mask, agent {agent}")


def _row(observation_spaces: Sequence[spaces.Space[Any]]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one agent's row: an image if all agents see images of one shape, else a vector."""
    boxes = [space for space in observation_spaces if isinstance(space, spaces.Box)]
    if len(boxes) == len(observation_spaces) and len({box.shape for box in boxes}) == 1:
        dtypes = {box.dtype for box in boxes}
        shape, dtype = stored_as(boxes[0].shape, UINT8 if dtypes == {UINT8} else FLOAT32)
        if len(shape) > 1:
            return shape, dtype
    return (max(map(flat_size, observation_spaces)),), FLOAT32
