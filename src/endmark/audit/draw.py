"""Draw the values that overwrite a field, from the domain of its real values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Style = Literal["random", "other random", "zero", "nan", "inf"]


def draw(like: Tensor, real: Tensor, style: Style, generator: torch.Generator) -> Tensor:
    """A tensor of `like`'s shape and type, with values in the style.

    Random values stay in the domain that the `real` values (rows, ...) show: flags stay 0 and 1, one-hot rows
    one-hot, masks of which every real row allows something allow something, rows of probabilities sum to 1,
    whole numbers stay whole, and every entry of the last axis keeps its range. Whole numbers and one-hot rows
    are never those of `like`, and a flag is the other one in one of the two random styles: so that a single
    cell that is overwritten changes.
    """
    if style == "zero":
        return torch.zeros_like(like)
    if style in ("nan", "inf"):
        return torch.full_like(like, float(style))
    if style == "other random":
        torch.rand(17, generator=generator)  # the generator moves on, so that other values follow
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float64
    shares = torch.rand(like.shape, generator=generator, dtype=dtype)
    now, seen = like.detach().cpu().to(dtype), real.detach().cpu().to(dtype)
    if style == "other random" and _is_flags(seen, like) and not _rows(seen):
        return (1 - now).to(like.device, like.dtype)
    return _in_domain(shares, seen, like, now).to(like.device, like.dtype)


def _is_whole(like: Tensor) -> bool:
    """Whether the type is one of integers, such as codes of actions."""
    return not (like.is_floating_point() or like.dtype == torch.bool)


def _is_flags(real: Tensor, like: Tensor) -> bool:
    """Whether the field holds zeros and ones; one integer alone is a code."""
    alike = _is_whole(like) and real.numel() > 0 and bool((real == real.flatten()[0]).all())
    return bool(((real == 0) | (real == 1)).all()) and not alike


def _rows(real: Tensor) -> bool:
    """Whether the last axis says something together."""
    return real.ndim > 1 and real.shape[-1] > 1


def _in_domain(shares: Tensor, real: Tensor, like: Tensor, now: Tensor) -> Tensor:
    """Values in the domain of the real ones, by numbers `shares` between 0 and 1; `now`: those of `like`."""
    if not real.numel():
        return (shares < 0.5).to(shares.dtype)
    rows = _rows(real)
    if _is_flags(real, like):
        return _flags(shares, real, rows, now)
    if rows and bool((real >= 0).all()) and bool(((real.sum(-1) - 1).abs() < 1e-4).all()):
        waits = -shares.clamp(min=1e-7).log()
        return waits / waits.sum(-1, keepdim=True)
    low, high = _range(real, widen=not _is_whole(like))
    whole = ((real == real.floor()) | ~real.isfinite()).reshape(-1, *real.shape[-1:] if rows else (1,)).all(0)
    if not low.ndim or not rows:
        whole = whole.all()
    numbers = torch.minimum((low + (high - low + 1) * shares).floor(), high)
    numbers = torch.where(numbers != now, numbers, torch.where(numbers < high, numbers + 1, low))
    return torch.where(whole, numbers, low + (high - low) * shares)


def _flags(shares: Tensor, real: Tensor, rows: bool, now: Tensor) -> Tensor:
    """Random zeros and ones; one-hot rows, or rows with a 1, if the real rows are."""
    ones = real.sum(-1)
    if rows and bool((ones == 1).all()):
        chosen = functional.one_hot(shares.argmax(-1), shares.shape[-1]).to(shares.dtype)
        return torch.where((chosen == now).all(-1, keepdim=True), chosen.roll(1, -1), chosen)
    flags = (shares < 0.5).to(shares.dtype)
    if rows and bool((ones >= 1).all()):
        flags = torch.maximum(flags, functional.one_hot(shares.argmin(-1), shares.shape[-1]).to(flags.dtype))
    return flags


def _range(real: Tensor, *, widen: bool) -> tuple[Tensor, Tensor]:
    """The least and the largest finite value, of each entry of the last axis if they vary there.

    widen: a field that holds one number only gets a range from 0 to that number, or to 1 if it is 0.
    """
    finite = real.isfinite()
    rows = real.reshape(-1, real.shape[-1] if real.ndim > 1 else 1)
    lows = torch.where(finite, real, torch.inf).reshape(rows.shape).amin(0)
    highs = torch.where(finite, real, -torch.inf).reshape(rows.shape).amax(0)
    if not bool((lows < highs).any()) or not bool((lows <= highs).all()):  # as if of one frame alone
        lows, highs = lows.min(), highs.max()
    if not bool((lows <= highs).all()):  # nothing finite
        return torch.zeros_like(lows), torch.ones_like(highs)
    if widen and lows.numel() == 1 and bool((lows == highs).all()):
        lows, highs = lows.clamp(max=0), highs.clamp(min=0)
        highs = torch.where(lows == highs, lows + 1, highs)
    return lows, highs
