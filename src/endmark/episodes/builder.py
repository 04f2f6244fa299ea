"""`EpisodeBuilder`: the frames of one running episode, in preallocated arrays."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.spec import NO_OUTCOMES, EpisodeSpec, Per

_Fields = Sequence[tuple[str, npt.NDArray[Any], tuple[int, ...]]]


class EpisodeBuilder:
    """Collects one episode at a time: `begin`, `add` for every step, `finish`.

    The arrays are allocated once, for the longest episode that the spec allows.
    """

    def __init__(self, spec: EpisodeSpec) -> None:
        self.spec = spec
        self.length = 0
        self._running = False
        self._arrays: dict[str, npt.NDArray[Any]] = {
            name: torch.zeros((spec.episode_limit + 1, *field.shape), dtype=field.dtype).numpy()
            for name, field in spec.fields.items()
        }
        # Looked up once, for every step.
        self._frame_fields = [
            (name, self._arrays[name], spec.fields[name].shape) for name in spec.frame_fields
        ]
        self._step_fields = [(name, self._arrays[name], spec.fields[name].shape) for name in spec.step_fields]
        self._outcomes = spec.outcomes

        self._names: dict[Per, frozenset[str]] = {
            "frame": frozenset(spec.frame_fields),
            "step": frozenset(spec.step_fields),
        }

    def begin(self, **frame: npt.ArrayLike | None) -> None:
        """Start an episode with the frame fields of its first frame. A running episode is dropped.

        ValueError for a field that is missing, has another shape, or is not in the spec (None is nothing).
        """
        self.length = 0
        self._running = False  # a refused frame starts no episode
        self._write(0, self._frame_fields, frame, "frame")
        self._running = True

    def add(self, step: Mapping[str, npt.ArrayLike], **frame: npt.ArrayLike | None) -> None:
        """Add a step, given by its step fields, and the frame fields of the frame after it."""
        if not self._running:
            raise RuntimeError("add: no episode is running; call begin first")
        if self.length == (limit := self.spec.episode_limit):
            raise ValueError(f"add: step {self.length}: want at most {limit} steps an episode")
        self._write(self.length, self._step_fields, step, "step")
        self._write(self.length + 1, self._frame_fields, frame, "frame")
        self.length += 1

    def drop(self) -> None:
        """Forget the running episode, if there is one."""
        self.length = 0
        self._running = False

    def checksum(self) -> int:
        """A number that tells this running episode, so far, from another; 0 where none is running."""
        if not self._running:
            return 0
        value = self.length + 1
        for _, array, _ in self._frame_fields:
            value = zlib.crc32(array[: self.length + 1].tobytes(), value)
        return zlib.crc32(self._arrays["reward"][: self.length].tobytes(), value)

    def steps(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """Copies of these step fields of the running episode so far, [length, ...]."""
        length = self.length if self._running else 0
        return {name: self._arrays[name][:length].copy() for name in names}

    def finish(self, *, terminated: bool, outcomes: Mapping[str, float] = NO_OUTCOMES) -> EpisodeBatch:
        """The episode as a validated batch of one, with copies of the data.

        terminated: whether the MDP ended; False for an episode that was cut off.
        outcomes: a number for each of `spec.outcomes`; ValueError for other names.
        """
        if not self._running or self.length == 0:
            raise RuntimeError("finish: no episode with a step is running")
        self._running = False
        n_frames = self.length + 1
        for _, array, _ in self._step_fields:
            array[self.length] = 0  # undefined there, but no data of an earlier episode may remain
        if self._outcomes or outcomes:
            self._write_outcomes(outcomes)
        return EpisodeBatch(
            self.spec,
            {name: torch.from_numpy(array[:n_frames].copy()) for name, array in self._arrays.items()},
            torch.tensor([self.length]),
            torch.tensor([terminated]),
        )

    def _write_outcomes(self, outcomes: Mapping[str, float]) -> None:
        if outcomes.keys() != {*self._outcomes}:
            given, want = (", ".join(sorted(names)) or "none" for names in (outcomes, self._outcomes))
            raise ValueError(f"outcomes: given {given}, want {want}, as in the spec")
        for name, value in outcomes.items():
            self._arrays[name][: self.length] = 0  # of earlier episodes
            self._arrays[name][self.length - 1] = value
            self._arrays[name][self.length] = 0

    def _write(self, at: int, fields: _Fields, values: Mapping[str, npt.ArrayLike | None], per: Per) -> None:
        if len(values) != len(fields):
            for name in values.keys() - self._names[per]:
                if values[name] is not None:
                    known = ", ".join(sorted(self._names[per]))
                    raise ValueError(
                        f"field '{name}', frame {at}: not a {per} field of the spec, which has {known}"
                    )
        for name, array, want in fields:
            value = values.get(name)
            try:
                # Nearly always an array; np.shape accepts any value but is slow.
                is_array = type(value) is np.ndarray
                shape = value.shape if is_array else value is not None and np.shape(value)  # type: ignore[union-attr]
                if shape == want:
                    array[at] = value
                    continue
                given = "nothing" if value is None else f"shape {shape}"
            except (TypeError, ValueError, OverflowError) as error:  # lists of lists, words, objects
                given = f"{type(value).__name__}: {error}"
            raise ValueError(f"field '{name}', frame {at}: given {given}, want shape {want}")
