"""The settings that all sections share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from benchmarks.measure import Effort
from benchmarks.results import Floor
from benchmarks.shapes import Lengths, Shape, episodes
from endmark.algorithms import QLearner, QMIXConfig
from endmark.episodes import EpisodeBatch


@dataclass(frozen=True)
class Setting:
    """The problem's shape, the measuring effort, the devices, and the speed of each device if measured."""

    shape: Shape
    effort: Effort
    devices: tuple[str, ...]
    floors: dict[str, Floor]
    quick: bool = False

    def share(self, part: float) -> Effort:
        """The effort with this share of the usual time for one comparison."""
        return replace(self.effort, seconds=self.effort.seconds * part)

    def few(self) -> Effort:
        """The effort with fewer rounds, for work that takes seconds."""
        low, high = self.effort.rounds
        return replace(self.effort, rounds=(min(low, 5), high))


def make_learner(shape: Shape, device: str = "cpu") -> QLearner:
    """A QMIX learner of this shape, with plain rewards and otherwise with default settings."""
    torch.manual_seed(0)
    config = QMIXConfig(
        hidden_size=shape.hidden_size,
        mixer_embed_size=shape.embed_size,
        mixer_hyper_size=shape.hyper_size,
        normalise_reward="none",
    )
    return QLearner(shape.spec(), config, device)


def draw(shape: Shape, lengths: Lengths, n: int, *, leaves: bool = False, seed: int = 0) -> EpisodeBatch:
    """`n` random episodes of this shape."""
    generator = torch.Generator().manual_seed(seed)
    return episodes(shape.spec(), lengths(n, shape.limit, generator), seed=seed, leaves=leaves)
