"""Regions of a batch: the cells that a probe overwrites."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from endmark.audit.view import View

Region = Callable[[View], Tensor]
"""A mask over the cells of a view, or over (cell, agent) pairs."""


def padding(view: View) -> Tensor:
    """Cells without a frame that are not marked as filled."""
    return ~view.frames & ~view.filled


def stale(view: View) -> Tensor:
    """Cells after an episode's end that are still marked as filled."""
    return ~view.frames & view.filled


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
