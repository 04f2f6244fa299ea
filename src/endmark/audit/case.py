"""What is audited: a loss, a batch that it takes, and what the batch's fields mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from endmark.episodes import EpisodeBatch

Loss = Callable[[Any], Tensor | Mapping[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A loss and a batch.

    loss: takes a batch like `batch`, returns a scalar tensor, or named ones of which `loss` is minimised and
        the others are metrics. `per_step`, if it is among them, is (B, T) or (B, T+1): each step's own term.
    batch: padded tensors by name, or an `EpisodeBatch`. Padded ones are (B, T+1, ...) with `filled` and
        `terminated` (B, T+1, 1); or (B, T, ...) sequences with `mask` or `lengths`, see below.
    modules: networks (and normalisers) whose gradients and buffers are watched.
    frame_fields: what is seen at a frame, such as `obs`. step_fields: what comes with an action, such as
        `actions` and `reward`. An `EpisodeBatch` has both in its spec. Fields in neither are left alone.
    mask: the field (B, T) that is not 0 where a sequence holds data, such as `attention_mask`. lengths: the
        field (B,) with each sequence's length, instead. Neither: `filled` and `terminated` are there.
    step_mask: the field (B, T) of the positions that count in the loss, such as `completion_mask`; by
        default all that hold data.
    reward: the step field whose perturbation a step's weight is measured by; None if there is none.
    bootstraps: whether the value of the frame after a truncated end is part of the target.
    horizon: a step's term may depend on so many frames after its own; None is the episode's end.
    """

    loss: Loss
    batch: Mapping[str, Tensor] | EpisodeBatch
    modules: nn.Module | Sequence[nn.Module] = ()
    frame_fields: Sequence[str] = ("obs", "state", "avail_actions", "alive")
    step_fields: Sequence[str] = ("actions", "actions_onehot", "reward")
    mask: str | None = None
    lengths: str | None = None
    step_mask: str | None = None
    reward: str | None = "reward"
    bootstraps: bool = True
    horizon: int | None = None
