"""From what is seen to vectors: images go through convolutions, everything else is flat already."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeSpec
from endmark.episodes.images import image_layout

LONGEST_SIDE = 8
"""Convolutions follow one another until neither side of their output is longer."""


class AsVector(nn.Module):
    """Arrays of one shape as vectors of `n_features` numbers, whatever axes come before.

    Images (`image_layout`) go through 3 x 3 convolutions of stride 2 with ReLU, of 16, 32 and from then on 64
    channels: two, or as many as bring both sides down to `LONGEST_SIDE`. So 84 x 84 becomes 6 x 6 in four. It
    is the network of Mnih et al. (2015), doi:10.1038/nature14236, made to fit any size. Colours in uint8 are
    divided by 255 here; floats are taken as they are. Other shapes are flattened, and have no parameters.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape, self.layout = tuple(shape), image_layout(shape)
        self.n_features = math.prod(self.shape)
        if self.layout is not None:
            *size, channels = shape if self.layout == "HWC" else (*shape[1:], shape[0])
            self.convolutions, self.n_features = _convolutions(channels, size)

    def forward(self, x: Real[Tensor, "..."]) -> Float[Tensor, "..."]:
        """[..., *shape] to [..., n_features]."""
        if self.layout is None and not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        if len(self.shape) == 1:  # as nearly always, and at every step of a rollout
            return x
        rows = x.shape[: x.ndim - len(self.shape)]
        if self.layout is None:
            return x.reshape(*rows, self.n_features)
        images = x.reshape(-1, *self.shape)
        if self.layout == "HWC":
            images = images.permute(0, 3, 1, 2)
        # A copy, in order: torch gives a weight's gradient the memory order of the input, and its fused Adam
        # takes that for the weight's own. `contiguous` would leave images of one channel as they are.
        images = images.clone(memory_format=torch.contiguous_format)
        images = images.to(next(self.convolutions.parameters()).dtype)
        if x.dtype == torch.uint8:
            images /= 255
        vectors: Tensor = self.convolutions(images)
        return vectors.reshape(*rows, self.n_features)


class StateAsVector(nn.Module):
    """`EpisodeBatch.state` as vectors of `n_features` numbers.

    Where the spec has no state, that is all agents' observations side by side. If these are images, one set
    of convolutions reads each of them.
    """

    def __init__(self, spec: EpisodeSpec) -> None:
        super().__init__()
        has_state = "state" in spec.fields
        shape = spec.fields["state"].shape if has_state else spec.fields["obs"].shape[1:]
        self.part = AsVector(shape)
        self.n_parts = 1 if has_state else spec.n_agents
        self.n_features = self.n_parts * self.part.n_features

    def forward(self, state: Real[Tensor, "F ..."]) -> Float[Tensor, "F I"]:
        """[F, ...] to [F, n_features]."""
        parts = state.reshape(len(state), self.n_parts, *self.part.shape)
        vectors: Tensor = self.part(parts)
        return vectors.reshape(len(state), self.n_features)


def _convolutions(channels: int, size: Sequence[int]) -> tuple[nn.Sequential, int]:
    """The layers for images of this size, flat at their end, and the numbers that they give."""
    layers: list[nn.Module] = []
    sizes = list(size)
    widths = 16, 32, 64
    while len(layers) < 4 or max(sizes) > LONGEST_SIDE:
        width = widths[min(len(layers) // 2, 2)]
        layers += [nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1), nn.ReLU()]
        channels, sizes = width, [-(-side // 2) for side in sizes]
    return nn.Sequential(*layers, nn.Flatten()), channels * math.prod(sizes)
