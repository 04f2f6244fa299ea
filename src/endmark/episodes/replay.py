"""`EpisodeReplay`: a ring of whole episodes on the frame axis."""

from __future__ import annotations

import torch
from torch import Tensor

from endmark.episodes import ragged
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.spec import EpisodeSpec


class EpisodeReplay:
    """Stores whole episodes, the oldest making way for the newest, and samples them uniformly.

    capacity: in frames; an episode of L steps takes L+1. One tensor a field is allocated at once, and an
    episode may run over its end and go on at its beginning.
    """

    def __init__(self, spec: EpisodeSpec, capacity: int) -> None:
        if capacity < 2:
            raise ValueError(f"capacity: given {capacity} frames, want at least 2: an episode of one step")
        self.spec = spec
        self.capacity = capacity
        try:
            self._fields = {
                name: torch.zeros((capacity, *field.shape), dtype=field.dtype)
                for name, field in spec.fields.items()
            }
        except RuntimeError as error:
            raise ValueError(f"capacity: given {capacity} frames, which do not fit into memory") from error
        # The episodes, themselves in a ring: `_count` of them from `_oldest` on.
        slots = capacity // 2
        self._starts = torch.zeros(slots, dtype=torch.int64)
        self._lengths = torch.zeros(slots, dtype=torch.int64)
        self._terminated = torch.zeros(slots, dtype=torch.bool)
        self._oldest = 0
        self._count = 0
        self._end = 0  # where the next frame goes
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
        """The memory of the fields, used or not."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._fields.values())

    def add(self, batch: EpisodeBatch) -> None:
        """Store every episode of the batch, in order; or none, if one is longer than the capacity."""
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
            before_wrap = min(n_frames, self.capacity - self._end)
            for name, tensor in self._fields.items():
                frames = batch[name][start : start + n_frames]
                tensor[self._end : self._end + before_wrap] = frames[:before_wrap]
                tensor[: n_frames - before_wrap] = frames[before_wrap:]
            self._end = (self._end + n_frames) % self.capacity
            self._used += n_frames
            self._count += 1

    def sample(self, n: int, generator: torch.Generator) -> EpisodeBatch:
        """`n` different episodes, every set of them equally likely; on the CPU."""
        if not 1 <= n <= self._count:
            raise ValueError(f"sample: given n = {n}, want 1 <= n <= {self._count}, the episodes stored")
        return self._gather(torch.randperm(self._count, generator=generator)[:n])

    def episodes(self) -> EpisodeBatch:
        """All episodes, from the oldest to the newest."""
        if self._count == 0:
            raise ValueError("episodes: nothing is stored yet")
        return self._gather(torch.arange(self._count))

    def _gather(self, ages: Tensor) -> EpisodeBatch:
        slots = (self._oldest + ages) % len(self._starts)
        lengths = self._lengths[slots]
        frames = lengths + 1
        index = (self._starts[slots].repeat_interleave(frames) + ragged.ramp(frames)) % self.capacity
        return EpisodeBatch(
            self.spec,
            {name: tensor.index_select(0, index) for name, tensor in self._fields.items()},
            lengths,
            self._terminated[slots],
            checked=True,
        )

    def _evict(self) -> None:
        self._used -= int(self._lengths[self._oldest]) + 1
        self._oldest = (self._oldest + 1) % len(self._starts)
        self._count -= 1
