"""A batch as cells: one cell for each (episode, time), which holds a step, a final frame, or nothing.

`PaddedView` has cells (B, C), with C = T+1 columns. `RaggedView` has cells (F,), one for each frame. Both
hold their own copy of the tensors, and share these names:

    episode, time       of each cell
    to_batch()          a fresh copy of the batch, as the loss takes it
    tensors_of(batch)   the tensors of such a batch, by name
    select(episodes)    a view of these episodes in this order; an episode may be repeated
    with_tensors(...)   the same cells with other content
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from endmark.episodes import EpisodeBatch
from endmark.episodes.ragged import ramp


class AuditError(ValueError):
    """The audit cannot run on this loss or batch; the message says what to do."""


@dataclass(frozen=True, eq=False)
class PaddedView:
    """Padded tensors, (B, C, ...).

    frames, steps: the cells that hold a frame, and the cells that carry a step.
    terminal, cut: the final frames of episodes that terminated, and of those that were truncated.
    filled: the cells that are marked as data. They include the frames, and stale cells after an end.
    alive: cells x N, the agents that still take part; None if the batch does not say.
    flags: the fields that mark real cells; the batch is empty if they are 0 everywhere.
    others: the entries of the batch that are not tensors; the loss gets them unchanged.
    """

    tensors: dict[str, Tensor]
    frame_fields: tuple[str, ...]
    step_fields: tuple[str, ...]
    frames: Tensor
    steps: Tensor
    terminal: Tensor
    cut: Tensor
    filled: Tensor
    alive: Tensor | None
    flags: tuple[str, ...]
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_episodes(self) -> int:  # noqa: D102
        return len(self.frames)

    @property
    def counted(self) -> Tensor:
        """The steps that must carry weight."""
        return self.steps

    @property
    def episode(self) -> Tensor:  # noqa: D102
        return torch.arange(self.frames.shape[0])[:, None].expand_as(self.frames)

    @property
    def time(self) -> Tensor:  # noqa: D102
        return torch.arange(self.frames.shape[1]).expand_as(self.frames)

    def to_batch(self) -> dict[str, Any]:  # noqa: D102
        return {**self.others, **{name: tensor.clone() for name, tensor in self.tensors.items()}}

    def tensors_of(self, batch: Any) -> Mapping[str, Tensor]:  # noqa: D102
        return {name: tensor for name, tensor in batch.items() if isinstance(tensor, Tensor)}

    def select(self, episodes: Sequence[int]) -> PaddedView:  # noqa: D102
        rows, n = torch.tensor(list(episodes), dtype=torch.int64), self.n_episodes
        return self._map(lambda x: x[rows.to(x.device)] if x.ndim and len(x) == n else x)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> PaddedView:  # noqa: D102
        return replace(self, tensors={**self.tensors, **tensors})

    def widen(self, columns: int) -> PaddedView:
        """The view with this many more columns of zeros."""
        n, width = self.frames.shape

        def wider(x: Tensor) -> Tensor:
            # The field `mask` is one column shorter than the others.
            if x.ndim < 2 or x.shape[0] != n or x.shape[1] not in (width, width - 1):
                return x
            return functional.pad(x, (0, 0) * (x.ndim - 2) + (0, columns))

        return self._map(wider)

    def emptied(self) -> PaddedView:
        """The same content without a real step: all flags are 0."""
        return self.with_tensors({name: torch.zeros_like(self.tensors[name]) for name in self.flags})

    def _map(self, change: Any) -> PaddedView:
        cells = {
            name: change(getattr(self, name)) for name in ("frames", "steps", "terminal", "cut", "filled")
        }
        alive = None if self.alive is None else change(self.alive)
        return replace(self, tensors={k: change(v) for k, v in self.tensors.items()}, alive=alive, **cells)


@dataclass(frozen=True, eq=False)
class RaggedView:
    """An `EpisodeBatch`. Every cell is a frame; there is no padding."""

    batch: EpisodeBatch
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", dict(self.batch.fields) | self.tensors)

    @property
    def frame_fields(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(self.batch.spec.frame_fields)

    @property
    def step_fields(self) -> tuple[str, ...]:  # noqa: D102
        return (*self.batch.spec.step_fields, *self.batch.spec.outcomes)

    @property
    def frames(self) -> Tensor:  # noqa: D102
        return torch.ones(self.batch.n_frames, dtype=torch.bool)

    @property
    def filled(self) -> Tensor:  # noqa: D102
        return self.frames

    @property
    def steps(self) -> Tensor:  # noqa: D102
        return self._cells(self.batch.step_frames.cpu())

    @property
    def counted(self) -> Tensor:  # noqa: D102
        return self.steps

    @property
    def terminal(self) -> Tensor:  # noqa: D102
        return self._cells(self._final[self.batch.terminated.cpu()])

    @property
    def cut(self) -> Tensor:  # noqa: D102
        return self._cells(self._final[self.batch.truncated.cpu()])

    @property
    def alive(self) -> Tensor | None:  # noqa: D102
        return self.batch.alive.cpu()

    @property
    def n_episodes(self) -> int:  # noqa: D102
        return self.batch.n_episodes

    @property
    def episode(self) -> Tensor:  # noqa: D102
        return torch.arange(self.n_episodes).repeat_interleave(self.batch.lengths + 1)

    @property
    def time(self) -> Tensor:  # noqa: D102
        return ramp(self.batch.lengths + 1)

    def to_batch(self) -> EpisodeBatch:  # noqa: D102
        batch, fields = self.batch, {name: tensor.clone() for name, tensor in self.tensors.items()}
        return EpisodeBatch(batch.spec, fields, batch.lengths.clone(), batch.terminated.clone(), checked=True)

    def tensors_of(self, batch: Any) -> Mapping[str, Tensor]:  # noqa: D102
        return {**batch.fields, "lengths": batch.lengths, "terminated": batch.terminated}

    def select(self, episodes: Sequence[int]) -> RaggedView:  # noqa: D102
        parts = self.to_batch().split()
        return RaggedView(EpisodeBatch.cat([parts[e] for e in episodes]))

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> RaggedView:  # noqa: D102
        return RaggedView(self.batch, {**self.tensors, **tensors})

    @property
    def _final(self) -> Tensor:
        return (self.batch.lengths + 1).cumsum(0) - 1

    def _cells(self, indices: Tensor) -> Tensor:
        cells = torch.zeros(self.batch.n_frames, dtype=torch.bool)
        cells[indices] = True
        return cells


View = PaddedView | RaggedView


def left_alone(view: View) -> tuple[str, ...]:
    """The batch's fields that no probe disturbs: they are in neither list of the case, and are no flags."""
    if isinstance(view, RaggedView):
        return ()
    known = {*view.frame_fields, *view.step_fields, *view.flags}
    return tuple(name for name in view.tensors if name not in known)
