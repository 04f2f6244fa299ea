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

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.case import Case
from endmark.episodes import EpisodeBatch, step_mask
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
        return tuple(self.batch.spec.step_fields)

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


def view_of(case: Case) -> View:
    """The case's batch as cells. Raises AuditError if no field says which cells are real."""
    batch = case.batch
    if isinstance(batch, EpisodeBatch):
        return RaggedView(batch)
    tensors = {name: tensor.detach().clone() for name, tensor in batch.items() if isinstance(tensor, Tensor)}
    others = {name: value for name, value in batch.items() if name not in tensors}
    for name in others:
        if hasattr(others[name], "__array__"):
            raise AuditError(f"field '{name}' is a {type(others[name]).__name__}: want a torch tensor")
    if case.mask or case.lengths:
        filled = _sequence_mask(case, tensors)
        steps = filled & _flags(case.step_mask, tensors, filled) if case.step_mask else filled
        nothing = torch.zeros_like(filled)
        flags = tuple(name for name in (case.mask, case.lengths, case.step_mask) if name)
        cells = {"frames": filled, "steps": steps, "terminal": nothing, "cut": nothing, "filled": filled}
    else:
        cells = _episode_cells(tensors)
        flags = tuple(name for name in ("filled", "terminated", "truncated", "mask") if name in tensors)
    frame_fields, step_fields = _named_fields(case, tensors, flags, tuple(cells["frames"].shape))
    alive = tensors["alive"].cpu() != 0 if "alive" in frame_fields else None
    return PaddedView(
        tensors=tensors,
        frame_fields=frame_fields,
        step_fields=step_fields,
        alive=alive,
        flags=flags,
        others=others,
        **cells,
    )


def left_alone(view: View) -> tuple[str, ...]:
    """The batch's fields that no probe disturbs: they are in neither list of the case, and are no flags."""
    if isinstance(view, RaggedView):
        return ()
    known = {*view.frame_fields, *view.step_fields, *view.flags}
    return tuple(name for name in view.tensors if name not in known)


def _named_fields(
    case: Case, tensors: Mapping[str, Tensor], flags: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The frame fields and step fields that the batch has.

    A name that the caller gave must be in the batch; a default name may be missing.
    """
    default = {f.name: f.default for f in dataclasses.fields(Case)}
    lists = []
    for kind in ("frame_fields", "step_fields"):
        names = tuple(getattr(case, kind))
        for name in names:
            if name not in tensors and names != default[kind]:
                raise AuditError(f"{kind}: no field '{name}' in the batch; it has {', '.join(tensors)}")
            if name in tensors and tuple(tensors[name].shape[:2]) != shape:
                given = tuple(tensors[name].shape)
                raise AuditError(
                    f"{kind}: field '{name}' has shape {given}, want {shape} + (...) like the flags: pad "
                    f"it by a column and let the loss cut that off; or leave the name out"
                )
        lists.append(tuple(name for name in names if name in tensors and name not in flags))
    if not any(lists):
        raise AuditError(
            f"none of the case's frame_fields and step_fields is in the batch: it has {', '.join(tensors)}"
        )
    if case.reward not in (*lists[1], None, default["reward"]):
        raise AuditError(f"reward: '{case.reward}' is not one of the step fields: {', '.join(lists[1])}")
    return lists[0], lists[1]


def _sequence_mask(case: Case, tensors: Mapping[str, Tensor]) -> Tensor:
    """The cells that hold data, (B, C) bool, by the case's `mask` or `lengths`."""
    if case.mask:
        return _flags(case.mask, tensors, None)
    fields = [tensors[f] for f in (*case.frame_fields, *case.step_fields) if f in tensors]
    if not fields:
        raise AuditError("no frame field and no step field is in the batch: name them in the case")
    lengths = tensors.get(case.lengths or "")
    if lengths is None or lengths.ndim != 1:
        given = "missing" if lengths is None else f"given shape {tuple(lengths.shape)}"
        raise AuditError(f"field '{case.lengths}': {given}, want (B,), the length of each sequence")
    return torch.arange(fields[0].shape[1]) < lengths.cpu()[:, None]


def _flags(name: str, tensors: Mapping[str, Tensor], like: Tensor | None) -> Tensor:
    """The batch's field of this name as a mask (B, C) bool; its shape must be that of `like`, if given."""
    if name not in tensors:
        raise AuditError(f"field '{name}': missing; the batch has {', '.join(tensors)}")
    mask = tensors[name].cpu() != 0
    flat = mask.squeeze(2) if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if flat.ndim != 2 or (like is not None and flat.shape != like.shape):
        want = "(B, T)" if like is None else f"{tuple(like.shape)}"
        raise AuditError(f"field '{name}': given shape {tuple(mask.shape)}, want {want}")
    return flat


def _episode_cells(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kinds of cells, (B, C) bool each, by the flags `filled` and `terminated`."""
    for name in ("filled", "terminated"):
        if name not in tensors:
            raise AuditError(
                f"the batch has no '{name}': it has {', '.join(tensors)}. Give filled and terminated, or "
                f"name the field that says what is real in Case(mask=...) or Case(lengths=...)"
            )
    filled, terminated = tensors["filled"].cpu(), tensors["terminated"].cpu()
    exact = step_mask(filled, terminated)[..., 0]
    steps = functional.pad(exact, (0, 1))
    length = exact.sum(1, keepdim=True)
    column = torch.arange(filled.shape[1])
    final = (column == length) & (length > 0)
    ended = ((terminated[..., 0] != 0) & (column == length - 1)).any(1, keepdim=True)
    has_frame = filled[..., 0] != 0
    return {
        "frames": steps | (final & has_frame),
        "steps": steps,
        "terminal": final & has_frame & ended,
        "cut": final & has_frame & ~ended,
        "filled": has_frame,
    }
