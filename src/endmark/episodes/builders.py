"""`EpisodeBuilders`: the frames of K running episodes, in preallocated tensors on one device."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from endmark.episodes import ragged
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.spec import EpisodeSpec


class EpisodeBuilders:
    """Collects K episodes side by side, as `EpisodeBuilder` does one: `begin`, `add` for each step, `finish`.

    Each has rows of its own, one after the other, for the longest episode that the spec allows. So an episode
    that has ended is cut out by index.

    lengths: [K] int64 on the CPU, the steps of each episode so far.

    Arguments named `where` are [K] bool on the CPU: which of the episodes. Values are on the device, and have
    the shapes and dtypes of the spec.
    """

    def __init__(self, spec: EpisodeSpec, n_episodes: int, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.lengths = torch.zeros(n_episodes, dtype=torch.int64)
        rows = spec.episode_limit + 1
        self._first_row = torch.arange(n_episodes) * rows
        self._of_frames, self._of_steps = (*spec.frame_fields,), (*spec.step_fields, *spec.outcomes)
        self._tensors = {
            name: torch.zeros((n_episodes * rows, *field.shape), dtype=field.dtype, device=device)
            for name, field in spec.fields.items()
        }
        # On a CPU numpy writes a few rows in half the time.
        is_cpu = device.type == "cpu"
        self._arrays = {name: tensor.numpy() for name, tensor in self._tensors.items()} if is_cpu else None

    def begin(self, frames: Mapping[str, Tensor], where: Bool[Tensor, " K"]) -> None:
        """Start episodes with their first frames. Those that were running there are dropped."""
        self.lengths[where] = 0
        chosen = where.nonzero()[:, 0].to(self.device)
        rows = self._first_row[where].numpy()
        self._write(rows, {name: frames[name].index_select(0, chosen) for name in self._of_frames})

    def add(
        self, step: Mapping[str, Tensor], frames: Mapping[str, Tensor], where: Bool[Tensor, " K"]
    ) -> None:
        """Add a step, given by its step fields and outcomes, and the frame after it.

        Outcomes count only if the episode ends there. Values elsewhere than `where` are written, too, into
        rows that the next `begin` writes anew.
        """
        rows = self._first_row.numpy() + self.lengths.numpy()  # which numpy adds faster, so few they are
        self._write(rows, {name: step[name] for name in self._of_steps})
        self._write(rows + 1, {name: frames[name] for name in self._of_frames})
        self.lengths.numpy()[:] += where.numpy()

    def steps(self, k: int, names: Iterable[str]) -> dict[str, Tensor]:
        """Copies of these step fields of episode k so far, [length, ...], on the CPU."""
        return {name: self._so_far(k, name, 0).cpu().clone() for name in names}

    def checksum(self, k: int) -> int:
        """A number that tells episode k, so far, from another."""
        value = int(self.lengths[k]) + 1
        for name in self.spec.frame_fields:
            value = zlib.crc32(self._so_far(k, name, 1).cpu().numpy().tobytes(), value)
        return zlib.crc32(self._so_far(k, "reward", 0).cpu().numpy().tobytes(), value)

    def drop(self, which: Iterable[int]) -> None:
        """Forget these episodes, where one is running."""
        for k in which:
            self.lengths[k] = 0

    def finish(
        self, terminated: Bool[Tensor, " K"], where: Bool[Tensor, " K"], *, checked: bool = True
    ) -> EpisodeBatch:
        """These episodes, of at least one step each, in one batch with copies of the data.

        Afterwards their lengths are 0.
        terminated: [K] on the device, whether the MDP ended; False for an episode that was cut off.
        checked: whether what was added is known to be sound, so that the batch need not be validated.
        """
        lengths: Int[Tensor, " E"] = self.lengths[where]
        frames = ragged.frames_from(self._first_row[where], lengths).to(self.device)
        fields = {name: tensor.index_select(0, frames) for name, tensor in self._tensors.items()}
        final_frames = ragged.final_frames(lengths).to(self.device)
        for name in self.spec.step_fields:
            fields[name].index_fill_(0, final_frames, 0)  # undefined there, but no earlier data may remain
        for name in self.spec.outcomes:
            at_the_end = fields[name][final_frames - 1]
            fields[name].zero_().index_copy_(0, final_frames - 1, at_the_end)
        self.lengths[where] = 0  # after a full episode, `add` would write into the next one's rows
        return EpisodeBatch(self.spec, fields, lengths, terminated[where.to(self.device)], checked=checked)

    def _write(self, rows: npt.NDArray[np.int64], values: Mapping[str, Tensor]) -> None:
        if self._arrays is not None:
            for name, tensor in values.items():
                self._arrays[name][rows] = tensor.numpy()
        else:
            on_device = torch.from_numpy(rows).to(self.device, non_blocking=True)
            for name, tensor in values.items():
                self._tensors[name].index_copy_(0, on_device, tensor)

    def _so_far(self, k: int, name: str, more: int) -> Tensor:
        first = int(self._first_row[k])
        return self._tensors[name][first : first + int(self.lengths[k]) + more]
