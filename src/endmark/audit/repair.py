"""Masks of actions in padding that allow nothing, and what they do to a loss that reads them.

A batch is padded with zeros, so no action is legal there. Code that gives illegal actions the value -9999999
then computes a target of that size for a step that should not be: a phantom step. Its gradient is 1e7, and
every other effect is less than a rounding error of it.
"""

from __future__ import annotations

import torch

from endmark.audit.compare import Numbers, is_additive
from endmark.audit.view import PaddedView, View

SWAMPED = 100.0
"""How many times larger a number must be by such masks alone, to judge the rest without them."""


def legal_in_padding(view: View) -> tuple[View, tuple[str, ...]]:
    """The view with these masks set to 1 outside of real frames, and their names; () if there are none.

    A mask of actions is a frame field of zeros and ones, with something set in each row of real frames.
    """
    changed = {}
    for name in view.frame_fields if isinstance(view, PaddedView) else ():
        tensor = view.tensors[name]
        if name == "alive" or tensor.ndim <= view.frames.ndim or tensor.shape[-1] < 2:
            continue
        frames = view.frames.to(tensor.device)
        real, rest = tensor[frames], tensor[~frames]
        if not rest.numel() or bool((rest != 0).any(-1).all()):
            continue
        if bool(((real == 0) | (real == 1)).all()) and bool((real != 0).any(-1).all()):
            changed[name] = torch.where(
                frames.reshape(*frames.shape, *[1] * (tensor.ndim - frames.ndim)),
                tensor,
                torch.ones_like(tensor),
            )
    return (view.with_tensors(changed), tuple(changed)) if changed else (view, ())


def swamped(numbers: Numbers, mended: Numbers) -> bool:
    """Whether the loss or the gradient is many times smaller once the masks are mended."""

    def largest(some: Numbers) -> float:
        return max((float(x.abs().max()) for n, x in some.items() if is_additive(n) and x.numel()), default=0)

    return largest(numbers) > SWAMPED * max(largest(mended), 1e-6)
