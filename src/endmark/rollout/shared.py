"""K rows of memory that this process and its workers share: what is seen, done, and to be done."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from endmark.envs import End, EnvError, Environment, Frame, Step
from endmark.episodes import EpisodeSpec

IDLE, RESET, STEP = 0, 1, 2
_ALIGNMENT = 64  # bytes of a cache line, so that fields start where arrays usually do


class SharedRows:
    """One row an environment. It is the worker's between the bell and its answer, and else the parent's.

    command: [K] what environment k is to do: IDLE, RESET (from `seeds`) or STEP (with `actions`).
    seeds: [K] int64.
    fields: the spec's, [K, *field.shape]: `actions` comes from the parent, the others from the workers.
    terminated, truncated: [K] bool, as the step said.

    The memory has no name: it is gone when the last process that knows it is, whatever that one died of. It
    goes to a process as an argument of its start, and no other way.
    """

    def __init__(self, spec: EpisodeSpec, n_rows: int, memory: Any) -> None:
        self.spec, self._n_rows, self._memory = spec, n_rows, memory
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, dtype, shape, offset in _layout(spec, n_rows):
            count = math.prod(shape)
            arrays[name] = np.frombuffer(memory, dtype, count, offset).reshape(shape)
        self.command, self.seeds = arrays.pop("command"), arrays.pop("seeds")
        self.terminated, self.truncated = arrays.pop("terminated"), arrays.pop("truncated")
        self.fields = arrays
        seen = [name for name in Frame._fields if name in arrays]
        # Rows as frames, made once: they are views.
        self.frames = [Frame(**{name: arrays[name][k] for name in seen}) for k in range(n_rows)]

    @staticmethod
    def allocate(spec: EpisodeSpec, n_rows: int, context: BaseContext) -> SharedRows:
        """New rows, all of them zero."""
        *_, (_, dtype, shape, offset) = _layout(spec, n_rows)
        n_bytes = offset + dtype.itemsize * math.prod(shape)
        return SharedRows(spec, n_rows, context.RawArray(ctypes.c_byte, n_bytes))

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedRows, (self.spec, self._n_rows, self._memory)

    def obey(self, k: int, env: Environment) -> None:
        """The worker's side: do what row k asks for, and write down what came of it."""
        if self.command[k] == RESET:
            self._see(k, env.reset(seed=int(self.seeds[k])))
        elif self.command[k] == STEP:
            step = env.step(self.fields["actions"][k].copy())  # which it may keep
            self._see(k, step.frame)
            self._write(k, "reward", step.reward)
            self.terminated[k], self.truncated[k] = step.terminated, step.truncated

    def step(self, k: int) -> Step:
        """The parent's side: what came of the step in row k."""
        end: End | None = "terminated" if self.terminated[k] else "truncated" if self.truncated[k] else None
        return Step(self.frames[k], self.fields["reward"][k], end)

    def _see(self, k: int, frame: Frame) -> None:
        for name in Frame._fields:
            if name in self.fields:
                self._write(k, name, getattr(frame, name))

    def _write(self, k: int, name: str, value: Any) -> None:
        row = self.fields[name]
        # Checked here, since numpy would repeat what is too small.
        if value is None or np.shape(value) != row.shape[1:]:
            given = "nothing" if value is None else f"shape {np.shape(value)}"
            raise EnvError(f"field '{name}': given {given}, want shape {row.shape[1:]}")
        row[k] = value


def _layout(spec: EpisodeSpec, n_rows: int) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Name, dtype, shape and offset in bytes of each array."""
    arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "command": (np.dtype(np.uint8), ()),
        "seeds": (np.dtype(np.int64), ()),
        "terminated": (np.dtype(np.bool_), ()),
        "truncated": (np.dtype(np.bool_), ()),
    }
    for name, field in spec.fields.items():
        arrays[name] = torch.zeros((), dtype=field.dtype).numpy().dtype, field.shape
    offset = 0
    for name, (dtype, shape) in arrays.items():
        yield name, dtype, (n_rows, *shape), offset
        size = dtype.itemsize * n_rows * math.prod(shape)
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
