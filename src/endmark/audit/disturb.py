"""Disturb a batch: other values in some fields, or another reward at one step."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from endmark.audit.cells import Cell
from endmark.audit.draw import Style, draw
from endmark.audit.regions import Region
from endmark.audit.view import View


@dataclass(frozen=True)
class Overwrite:
    """A disturbance: these fields get other values in a region.

    The region is a function of the view, so the same disturbance applies to a part of the batch.
    """

    fields: tuple[str, ...]
    region: Region
    style: Style
    seed: int

    def __call__(self, view: View, only: Tensor | None = None) -> View:
        """The view with other values in the region, or in the part of it that the mask `only` covers."""
        cells = self.region(view)
        return overwritten(view, self.fields, cells if only is None else cells & only, self.style, self.seed)


def overwritten(view: View, fields: Sequence[str], cells: Tensor, style: Style, seed: int) -> View:
    """The view with other values in the cells.

    A field's values depend on its name and the seed, and not on the other fields that are overwritten.
    """
    tensors = {}
    for field in fields:
        tensor = view.tensors[field].clone()
        device = tensor.device
        real = view.steps if field in view.step_fields else view.frames
        generator = torch.Generator().manual_seed(seed + zlib.crc32(field.encode()))
        values = draw(tensor, tensor[real.to(device)], style, generator)
        tensor[cells.to(device)] = values[cells.to(device)]
        tensors[field] = tensor
    return view.with_tensors(tensors)


def nudged(view: View, reward: str, cell: Cell, sign: int) -> View:
    """The view with the reward of one cell larger (sign 1) or smaller (sign -1)."""
    tensor = view.tensors[reward].clone()
    tensor[cell] += (sign * (1 + tensor[cell].abs())).to(tensor.dtype)
    return view.with_tensors({reward: tensor})
