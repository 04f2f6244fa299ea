"""Environments that draw themselves, well and badly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from endmark.envs import Frame
from support.scripted import Scripted

SIZE = 24, 36  # rows, columns


class Pictured(Scripted):
    """Each frame of an episode has a picture of one grey of its own."""

    render_fps = 10
    action_names: tuple[str, ...] = ("up", "down", "hold", "fire")

    def render(self) -> npt.NDArray[np.uint8]:
        return np.full((*SIZE, 3), 20 * self._t, np.uint8)


class Shown(Pictured):
    """Its pictures are black; without names of actions."""

    action_names = ()

    def render(self) -> npt.NDArray[np.uint8]:
        return np.zeros((*SIZE, 3), np.uint8)


class Growing(Pictured):
    def render(self) -> npt.NDArray[np.uint8]:
        return np.zeros((SIZE[0] + self._t, SIZE[1], 3), np.uint8)


class Floats(Pictured):
    def render(self) -> npt.NDArray[np.uint8]:
        return np.zeros((*SIZE, 3))  # type: ignore[return-value]


class Nothing(Pictured):
    def render(self) -> npt.NDArray[np.uint8]:
        return None  # type: ignore[return-value]


class Fails(Pictured):
    def render(self) -> npt.NDArray[np.uint8]:
        raise OSError("no paint")


class Blind(Scripted):
    """Draws no pictures."""

    def reset(self, seed: int | None = None) -> Frame:
        return super().reset(seed)
