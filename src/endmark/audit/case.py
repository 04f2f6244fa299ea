"""The case to audit: a loss, a batch that it takes, and the meaning of the batch's fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from endmark.audit.rows import Rows
from endmark.episodes import EpisodeBatch

Loss = Callable[[Any], Tensor | Mapping[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A loss and a batch.

    loss: takes a batch like `batch`. Returns a scalar tensor, or scalars by name: `loss` is minimised, the
        others are metrics. It may also return `per_step`, (B, T) or (B, T+1): each step's own term.
    batch: an `EpisodeBatch`, or padded tensors by name: episodes (B, T+1, ...) with `filled` and `terminated`
        (B, T+1, 1), or sequences (B, T, ...) with a `mask` or `lengths`, see below; or tensors or arrays
        whose rows hold several episodes, with `rows`.
    modules: the networks and normalisers of the loss. Their gradients and buffers are compared.
    frame_fields: fields of a frame, such as `obs`. step_fields: fields of a step, such as `actions` and
        `reward`. The spec of an `EpisodeBatch` has both. No probe disturbs a field in neither list.
    mask: the name of a field (B, T), such as `attention_mask`, that is not 0 where a sequence holds data.
    lengths: the name of a field (B,) with the length of each sequence; an alternative to `mask`.
    step_mask: the name of a field (B, T), such as `completion_mask`: the positions that count in the loss.
        By default every position with data counts.
    rows: where each episode begins, if a row holds several of them.
    reward: the step field that is changed to see whether a step carries weight. None if there is none.
    bootstraps: whether the target contains the value of the frame after a truncated end.
    horizon: how many frames after its own a step's term may depend on. None: `causality` is not run.
    """

    loss: Loss
    batch: Mapping[str, Any] | EpisodeBatch
    modules: nn.Module | Sequence[nn.Module] = ()
    frame_fields: Sequence[str] = ("obs", "state", "avail_actions", "alive")
    step_fields: Sequence[str] = ("actions", "actions_onehot", "reward")
    mask: str | None = None
    lengths: str | None = None
    step_mask: str | None = None
    rows: Rows | None = None
    reward: str | None = "reward"
    bootstraps: bool = True
    horizon: int | None = None
