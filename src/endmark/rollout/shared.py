"""Memory that this process and its workers share: one row an environment."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from endmark.envs import End, Frame, Step
from endmark.envs.protocol import frame_of
from endmark.episodes import EpisodeSpec
from endmark.rollout.checked import Checked

IDLE, RESET, STEP = 0, 1, 2
_ALIGNMENT = 64  # bytes of a cache line, where each array starts


class SharedRows:
    """K rows of shared memory. A worker owns its rows from a request to its reply, the parent otherwise.

    request: [K] what the worker is to do with environment k: IDLE, RESET (from `seeds`) or STEP (with
        `actions`).
    seeds: [K] int64.
    fields: those of the environments' spec, [K, *field.shape]. The parent writes `actions`, workers the rest.
    terminated, truncated: [K] bool, of the last step.

    The memory has no name in the file system, so that none is left behind however a process dies. It reaches
    a worker as an argument of its start, and in no other way.
    """

    def __init__(self, spec: EpisodeSpec, n_rows: int, memory: Any) -> None:
        self.spec, self._n_rows, self._memory = spec, n_rows, memory
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, dtype, shape, offset in _layout(spec, n_rows):
            count = math.prod(shape)
            arrays[name] = np.frombuffer(memory, dtype, count, offset).reshape(shape)
        own = {name: arrays.pop(f"{name}:") for name in ("request", "seeds", "terminated", "truncated")}
        self.request, self.seeds = own["request"], own["seeds"]
        self.terminated, self.truncated = own["terminated"], own["truncated"]
        self.fields = arrays
        self._outcomes = spec.outcomes
        # Views of the rows as frames, made once.
        in_frame = [name for name in Frame._fields if name in arrays]
        self.frames = [frame_of({name: arrays[name][k] for name in in_frame}) for k in range(n_rows)]

    @staticmethod
    def allocate(spec: EpisodeSpec, n_rows: int, context: BaseContext) -> SharedRows:
        """New rows, all of them zero."""
        *_, (_, dtype, shape, offset) = _layout(spec, n_rows)
        n_bytes = offset + dtype.itemsize * math.prod(shape)
        return SharedRows(spec, n_rows, context.RawArray(ctypes.c_byte, n_bytes))

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedRows, (self.spec, self._n_rows, self._memory)

    def execute(self, k: int, env: Checked) -> None:
        """In a worker: do what row k requests, and write the result into the row, which it fits."""
        if self.request[k] == RESET:
            self._write_frame(k, env.reset(seed=int(self.seeds[k])))
        elif self.request[k] == STEP:
            step = env.step(self.fields["actions"][k].copy())  # a copy, which the environment may keep
            self._write_frame(k, step.frame)
            self.fields["reward"][k] = step.reward
            self.terminated[k], self.truncated[k] = step.terminated, step.truncated
            for name, value in step.outcomes.items():
                self.fields[name][k] = value

    def has_ended(self, mine: range) -> bool:
        """In the parent: whether an episode of these rows ended with the last step."""
        at = slice(mine.start, mine.stop)
        return bool(((self.request[at] == STEP) & (self.terminated[at] | self.truncated[at])).any())

    def step(self, k: int) -> Step:
        """In the parent: the step that row k holds."""
        end: End | None = "terminated" if self.terminated[k] else "truncated" if self.truncated[k] else None
        reward = self.fields["reward"][k]
        if end is None:
            return Step(self.frames[k], reward)
        return Step(self.frames[k], reward, end, {n: float(self.fields[n][k]) for n in self._outcomes})

    def _write_frame(self, k: int, frame: Frame) -> None:
        for name in Frame._fields:
            if name in self.fields:
                self.fields[name][k] = getattr(frame, name)


def _layout(spec: EpisodeSpec, n_rows: int) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Name, dtype, shape and byte offset of each array. Names that end in a colon are no fields."""
    arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "request:": (np.dtype(np.uint8), ()),
        "seeds:": (np.dtype(np.int64), ()),
        "terminated:": (np.dtype(np.bool_), ()),
        "truncated:": (np.dtype(np.bool_), ()),
    }
    for name, field in spec.fields.items():
        arrays[name] = torch.zeros((), dtype=field.dtype).numpy().dtype, field.shape
    offset = 0
    for name, (dtype, shape) in arrays.items():
        yield name, dtype, (n_rows, *shape), offset
        size = dtype.itemsize * n_rows * math.prod(shape)
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
