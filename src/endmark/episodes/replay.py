"""`EpisodeReplay`, a ring buffer of whole episodes, and `SampleBuffer`, reusable memory for samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int, Real
from torch import Tensor

from endmark.episodes import ragged
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.memory import GIB, installed
from endmark.episodes.spec import EpisodeSpec


class EpisodeReplay:
    """Stores whole episodes, drops the oldest when full, and samples uniformly. Each has a priority.

    capacity: in frames; an episode of L steps takes L+1. One tensor for each field is allocated at the
    start, as a ring: an episode may begin at its end and continue at its beginning.
    """

    def __init__(self, spec: EpisodeSpec, capacity: int) -> None:
        if capacity < 2:
            raise ValueError(f"capacity: given {capacity} frames, want at least 2: an episode of one step")
        self.spec = spec
        self.capacity = capacity
        n_bytes = capacity * sum(math.prod(f.shape) * f.dtype.itemsize for f in spec.fields.values())
        try:
            if n_bytes > installed():  # which some systems promise nevertheless
                raise RuntimeError
            self._fields = {
                name: torch.zeros((capacity, *field.shape), dtype=field.dtype)
                for name, field in spec.fields.items()
            }
        except RuntimeError as error:
            raise ValueError(
                f"capacity: given {capacity} frames, which do not fit into memory: they take "
                f"{n_bytes / GIB:.1f} GiB, and this machine has {installed() / GIB:.1f} GiB"
            ) from error
        # Start, length and end of each episode, also in rings: `_count` entries from `_oldest` on.
        slots = capacity // 2
        self._starts = np.zeros(slots, dtype=np.int64)
        self._lengths = np.zeros(slots, dtype=np.int64)
        self._terminated = np.zeros(slots, dtype=np.bool_)
        self._priorities = np.ones(slots)
        self._oldest = 0
        self._count = 0
        self._evicted = 0
        self._end = 0  # position of the next frame
        self._used = 0

    def __len__(self) -> int:
        """The number of episodes stored."""
        return self._count

    @property
    def n_frames(self) -> int:
        """The number of frames stored."""
        return self._used

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for the fields."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._fields.values())

    @property
    def first_serial(self) -> int:
        """The serial number of the oldest episode: how many there were before it."""
        return self._evicted

    @property
    def priorities(self) -> Float64[np.ndarray, " N"]:
        """The priority of each episode, from the oldest to the newest; see `endmark.episodes.priorities`."""
        found: Float64[np.ndarray, " N"] = self._priorities[self._slots(np.arange(self._count))]
        return found

    def prioritise(self, serials: Int[Tensor, " E"], priorities: Real[Tensor, " E"]) -> None:
        """Give episodes a priority. One that is not stored any more is passed over."""
        ages = serials.numpy() - self._evicted
        stored = ages >= 0
        self._priorities[self._slots(ages[stored])] = priorities.double().numpy()[stored]

    def add(self, batch: EpisodeBatch, priority: float = 1.0) -> None:
        """Store all episodes of the batch, in order. ValueError, and none is stored, if one does not fit."""
        if batch.spec != self.spec:
            raise ValueError("add: the batch has another spec than this replay")
        if (too_long := batch.lengths + 1 > self.capacity).any():
            episode = int(too_long.nonzero()[0])
            raise ValueError(
                f"add: episode {episode}: given {int(batch.lengths[episode]) + 1} frames, "
                f"want at most the capacity, {self.capacity}"
            )
        starts = ragged.frame_starts(batch.lengths).tolist()
        terminated = batch.terminated.tolist()
        for start, length, ended in zip(starts, batch.lengths.tolist(), terminated, strict=True):
            n_frames = length + 1
            while self._used + n_frames > self.capacity:
                self._evict()
            slot = (self._oldest + self._count) % len(self._starts)
            self._starts[slot], self._lengths[slot], self._terminated[slot] = self._end, length, ended
            self._priorities[slot] = priority
            before_wrap = min(n_frames, self.capacity - self._end)
            for name, tensor in self._fields.items():
                frames = batch[name][start : start + n_frames]
                tensor[self._end : self._end + before_wrap] = frames[:before_wrap]
                if before_wrap < n_frames:
                    tensor[: n_frames - before_wrap] = frames[before_wrap:]
            self._end = (self._end + n_frames) % self.capacity
            self._used += n_frames
            self._count += 1

    def sample(self, n: int, generator: torch.Generator, buffer: SampleBuffer | None = None) -> EpisodeBatch:
        """`n` different episodes; every set of `n` is equally likely. On the CPU, or on the buffer's device.

        buffer: memory for the batch, which is then valid until the next sample into the same buffer.
        """
        if not 1 <= n <= self._count:
            raise ValueError(f"sample: given n = {n}, want 1 <= n <= {self._count}, the episodes stored")
        return self.take(torch.randperm(self._count, generator=generator)[:n], buffer)

    def episodes(self) -> EpisodeBatch:
        """All episodes, from the oldest to the newest."""
        if self._count == 0:
            raise ValueError("episodes: nothing is stored yet")
        return self.take(torch.arange(self._count))

    def take(self, ages: Int[Tensor, " n"], buffer: SampleBuffer | None = None) -> EpisodeBatch:
        """These episodes; 0 is the oldest. buffer: as for `sample`."""
        slots = self._slots(ages.numpy())
        lengths = torch.from_numpy(self._lengths[slots])
        starts, terminated = torch.from_numpy(self._starts[slots]), torch.from_numpy(self._terminated[slots])
        index = ragged.frames_from(starts, lengths).remainder_(self.capacity)
        if buffer is not None:
            fields = buffer.take(self._fields, index)
            return EpisodeBatch(self.spec, fields, lengths, terminated.to(buffer.device), checked=True)
        fields = {name: tensor.index_select(0, index) for name, tensor in self._fields.items()}
        return EpisodeBatch(self.spec, fields, lengths, terminated, checked=True)

    def state_dict(self) -> dict[str, Any]:
        """The stored episodes, from the oldest to the newest: fields end to end, lengths and ends."""
        if self._count == 0:
            return {"lengths": torch.zeros(0, dtype=torch.int64)}
        stored = self.episodes()
        return {"fields": dict(stored.fields), "lengths": stored.lengths, "terminated": stored.terminated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold exactly the episodes of a `state_dict`; samples are then those that its owner would draw."""
        self._oldest = self._count = self._end = self._used = self._evicted = 0
        if len(state["lengths"]) > 0:
            self.add(EpisodeBatch(self.spec, state["fields"], state["lengths"], state["terminated"]))

    def _slots(self, ages: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return (self._oldest + ages) % len(self._starts)

    def _evict(self) -> None:
        self._used -= int(self._lengths[self._oldest]) + 1
        self._oldest = (self._oldest + 1) % len(self._starts)
        self._count -= 1
        self._evicted += 1


class SampleBuffer:
    """Memory for a sampled batch, reused for the next one.

    device: the device of the batches. For a GPU, the memory is page-locked and copied asynchronously.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._memory: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, fields: Mapping[str, Tensor], index: Int[Tensor, " F"]) -> dict[str, Tensor]:
        """The frames `index` of every field, on the device."""
        if self._copied is not None:
            self._copied.synchronize()  # the last batch's copy must finish before its memory is reused
        n_frames = len(index)
        for name, tensor in fields.items():
            if name not in self._memory or len(self._memory[name]) < n_frames:
                shape = (n_frames + n_frames // 4, *tensor.shape[1:])  # with room to grow
                pinned = self.device.type == "cuda"
                self._memory[name] = torch.empty(shape, dtype=tensor.dtype, pin_memory=pinned)
        taken = {
            name: torch.index_select(tensor, 0, index, out=self._memory[name][:n_frames])
            for name, tensor in fields.items()
        }
        if self.device.type == "cpu":
            return taken
        taken = {name: tensor.to(self.device, non_blocking=True) for name, tensor in taken.items()}
        if self.device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        return taken
