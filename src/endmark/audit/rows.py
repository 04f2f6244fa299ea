"""Rows that hold several episodes, one after the other, as environments that reset themselves leave them.

    column t    0       1       2       3       4 = T
    row         s s s s s s s | s s s s s s s s           s: a step; | : an episode ends, the next one begins
    frame       A0      A1    | B0      B1      B2

A row is an environment. Its last column may hold a frame without a step, which the last step bootstraps from.
The final frame of an episode that ended within the row is not stored: the next column has another episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.view import PaddedView


@dataclass(frozen=True)
class Rows:
    """The fields that say where episodes begin, for `Case(rows=...)`; `~name` is a flag the other way round.

    starts: set where frame t is the first of an episode.
    ends: set where step t is the last of an episode; an alternative to `starts`.
    cut: set where the episode that ended before frame t was truncated (with `ends`: where step t was). A loss
        may leave such a step out, since its final frame is not stored.
    alive: set where an agent takes part, (..., agents). None if all do.
    time_major: fields are (T, rows, ...), not (rows, T, ...).
    """

    starts: str | None = None
    ends: str | None = None
    cut: str | None = None
    alive: str | None = None
    time_major: bool = True

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of all fields that it reads."""
        given = (self.starts, self.ends, self.cut, self.alive)
        return tuple(dict.fromkeys(name.lstrip("~") for name in given if name))


ON_POLICY = Rows(starts="~masks", cut="~bad_masks", alive="active_masks")
"""The buffers of `on-policy` and its descendants, such as HARL: (T + 1, rows, agents, ...)."""

EPISODE_STARTS = Rows(starts="episode_starts")
"""Stable-Baselines3's rollout buffer: (T, rows, ...)."""

DONES = Rows(starts="dones")
"""CleanRL's tensors, where `dones[t]` belongs to frame t: (T, rows, ...)."""


@dataclass(frozen=True)
class Form:
    """How the batch has a field that the view holds as a tensor (rows, columns, ...)."""

    array: bool
    dtype: Any
    columns: int
    time_major: bool

    def back(self, tensor: Tensor) -> Any:
        """The field as the batch has it; a copy."""
        cut = tensor[:, : self.columns]
        shaped = (cut.transpose(0, 1) if self.time_major else cut).contiguous()
        return shaped.numpy().astype(self.dtype) if self.array else shaped.to(self.dtype, copy=True)


@dataclass(frozen=True, eq=False)
class RowsView(PaddedView):
    """Rows with several episodes, (rows, columns, ...): what the probes call an episode is a row here.

    segment: the number of the episode within its row, for each cell.
    optional: steps that a loss may leave out.
    forms: how the batch has each field.
    """

    segment: Tensor = field(default_factory=lambda: torch.zeros(0))
    optional: Tensor = field(default_factory=lambda: torch.zeros(0))
    forms: Mapping[str, Form] = field(default_factory=dict)

    @property
    def counted(self) -> Tensor:  # noqa: D102
        return self.steps & ~self.optional

    def to_batch(self) -> dict[str, Any]:  # noqa: D102
        fields = {name: self.forms[name].back(tensor) for name, tensor in self.tensors.items()}
        return {**self.others, **fields}

    def tensors_of(self, batch: Any) -> Mapping[str, Tensor]:
        """The fields that the case names. The others may be the loss's own, as `returns` of a buffer is."""
        named = {*self.frame_fields, *self.step_fields, *self.flags}
        return {name: torch.as_tensor(value) for name, value in batch.items() if name in named}

    def _map(self, change: Any) -> RowsView:
        mapped = super()._map(change)
        assert isinstance(mapped, RowsView)
        return replace(mapped, segment=change(self.segment), optional=change(self.optional))


def row_major(value: Any, columns: int, *, time_major: bool) -> Tensor:
    """A copy of a field as a tensor (rows, columns, ...); a column of zeros is added where it has one less.

    Floats that are all whole numbers, such as actions, become integers: they are disturbed as integers are.
    """
    tensor = torch.as_tensor(np.array(value) if isinstance(value, np.ndarray) else value.detach().clone())
    tensor = tensor.transpose(0, 1) if time_major else tensor
    if tensor.is_floating_point() and tensor.numel() and bool((tensor == tensor.round()).all()):
        least, most = float(tensor.min()), float(tensor.max())
        if 0 <= least < most < 2**31:
            tensor = tensor.long()
    missing = columns - tensor.shape[1]
    return (
        functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing)) if missing else tensor.contiguous()
    )
