"""Values to overwrite a field with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Style = Literal["random", "other random", "zero", "nan", "inf"]


def draw(like: Tensor, real: Tensor, style: Style, generator: torch.Generator) -> Tensor:
    """A tensor like `like`, of values as `real` ones might be: within their range for integers and flags,
    some times larger for floats, so that what depends on them moves visibly.
    """
    if style == "zero":
        return torch.zeros_like(like)
    if style in ("nan", "inf"):
        return torch.full_like(like, float(style))
    if style == "other random":
        torch.rand(17, generator=generator)
    if like.dtype == torch.bool:
        values = torch.rand(like.shape, generator=generator) < 0.5
    elif like.is_floating_point():
        finite = real[real.isfinite()].double()
        scale = float(finite.abs().mean()) + 1 if finite.numel() else 1.0
        # Away from 0 by at least 1, so that no value that is drawn happens to be one that is there.
        sign = torch.where(torch.rand(like.shape, generator=generator) < 0.5, -1.0, 1.0)
        values = sign * (1 + 3 * scale * torch.rand(like.shape, generator=generator))
    else:
        low, high = (int(real.min()), int(real.max())) if real.numel() else (0, 1)
        values = torch.randint(low, high + 1, like.shape, generator=generator)
    return values.to(like.device, like.dtype)
