"""The contract of K environments that are stepped together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec


@runtime_checkable
class VectorEnv(Protocol):
    """K environments of one kind, numbered from 0: in this process or in worker processes.

    None in the place of a frame or a step says that the episode there is lost. Another can begin there.
    """

    spec: EpisodeSpec
    n_envs: int

    def reset(self, seeds: Mapping[int, int]) -> None:
        """Begin an episode in each of these environments, from its seed.

        Its first frame is to be asked for before the next `reset` or `step`.
        """
        ...

    def first_frames(self, running: Sequence[bool]) -> Iterable[tuple[int, Frame | None]]:
        """The first frame of each episode begun since the last call; None for a running one that is lost."""
        ...

    def step(self, actions: npt.NDArray[Any], running: Sequence[bool]) -> Iterable[tuple[int, Step | None]]:
        """Act, [K, N] or [K, N, D], where an episode is running. The steps come in the environments' order.

        A step's arrays are valid until the next step is asked for.
        """
        ...

    def close(self) -> None:
        """Close the environments. A second call does nothing."""
        ...
