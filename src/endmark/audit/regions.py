"""Regions of a batch: the cells that a probe overwrites."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.view import View

Region = Callable[[View], Tensor]
"""A mask over the cells of a view, or over (cell, agent) pairs."""


def padding(view: View) -> Tensor:
    """Cells without a frame that are not marked as filled."""
    return ~view.frames & ~view.filled


def stale(view: View) -> Tensor:
    """Cells after an episode's end that are still marked as filled."""
    return ~view.frames & view.filled


def phantom(view: View) -> Tensor:
    """Final frames of episodes that were cut off before the last column: a mask may count them as steps."""
    early = view.cut.clone()
    if early.ndim == 1:
        return torch.zeros_like(early)
    early[:, -1] = False
    return early


def beyond_phantom(view: View) -> Tensor:
    """The cells of padding that follow those: a phantom step bootstraps from there."""
    return functional.pad(phantom(view), (1, -1)) if view.cut.ndim > 1 else phantom(view)


def padding_else(view: View) -> Tensor:
    """Padding that does not follow such a final frame."""
    return padding(view) & ~beyond_phantom(view)


def cut_at_last(view: View) -> Tensor:
    """Final frames of the other episodes that were cut off."""
    return view.cut & ~phantom(view)


def prompt(view: View) -> Tensor:
    """Frames without a step that are no final frames."""
    return without_step(view) & ~view.cut & ~view.terminal


def without_step(view: View) -> Tensor:
    """Frames without a step: final frames, and the prompt of a sequence."""
    return view.frames & ~view.steps


def after_terminal(view: View) -> Tensor:
    """Final frames of episodes that terminated."""
    return view.terminal


def dead(view: View) -> Tensor:
    """(frame, agent) pairs where the agent has left."""
    assert view.alive is not None
    return ~view.alive & view.frames[..., None]


def dead_steps(view: View) -> Tensor:
    """(step, agent) pairs where the agent has left."""
    assert view.alive is not None
    return ~view.alive & view.steps[..., None]
