"""Running mean and variance."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Mean and variance of all values added so far (Chan et al. 1979, the parallel form)."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add(self, values: Tensor) -> None:
        """Take in all of `values`, of any shape; also none."""
        if values.numel() == 0:
            return
        values = values.double()
        n, mean = values.numel(), values.mean()
        total = self.count + n
        delta = mean - self.mean
        self.squares += (values - mean).square().sum() + delta.square() * self.count * n / total
        self.mean += delta * n / total
        self.count.copy_(total)

    @property
    def std(self) -> Tensor:
        """The standard deviation, at least 1e-6; 1 before anything was added."""
        std = (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=1e-6)
        return torch.where(self.count > 0, std, 1.0)

    @property
    def rms(self) -> Tensor:
        """The root of the mean square, at least 1e-6; 1 before anything was added."""
        rms = (self.squares / self.count.clamp(min=1) + self.mean.square()).sqrt().clamp(min=1e-6)
        return torch.where(self.count > 0, rms, 1.0)

    def scale(self, values: Tensor) -> Tensor:
        """values / rms; unchanged before anything was added."""
        return (values / self.rms).to(values.dtype)

    def standardise(self, values: Tensor) -> Tensor:
        """(values - mean) / std; unchanged before anything was added."""
        return ((values - self.mean) / self.std).to(values.dtype)

    def restore(self, values: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return (values * self.std + self.mean).to(values.dtype)
