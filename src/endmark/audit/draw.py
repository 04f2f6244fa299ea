"""Draw the values that overwrite a field."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Style = Literal["random", "other random", "zero", "nan", "inf"]


def draw(like: Tensor, real: Tensor, style: Style, generator: torch.Generator) -> Tensor:
    """A tensor of `like`'s shape and type, with values in the style.

    Random integers and flags stay within the range of the `real` values. Random floats are up to a few times
    larger than the real ones, so that a result that depends on them changes visibly.
    """
    if style == "zero":
        return torch.zeros_like(like)
    if style in ("nan", "inf"):
        return torch.full_like(like, float(style))
    if style == "other random":
        torch.rand(17, generator=generator)  # the generator moves on, so that other values follow
    if like.dtype == torch.bool:
        values = torch.rand(like.shape, generator=generator) < 0.5
    elif like.is_floating_point():
        finite = real[real.isfinite()].double()
        scale = float(finite.abs().mean()) + 1 if finite.numel() else 1.0
        # At least 1 in size, so that no value is close to the zeros of padding.
        sign = torch.where(torch.rand(like.shape, generator=generator) < 0.5, -1.0, 1.0)
        values = sign * (1 + 3 * scale * torch.rand(like.shape, generator=generator))
    else:
        low, high = (int(real.min()), int(real.max())) if real.numel() else (0, 1)
        values = torch.randint(low, high + 1, like.shape, generator=generator)
    return values.to(like.device, like.dtype)
