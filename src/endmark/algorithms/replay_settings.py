"""The settings of algorithms that learn from a replay, and of those that act ε-greedily beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from endmark.algorithms.agent_settings import AgentSettings
from endmark.algorithms.learner import check_ranges
from endmark.episodes import EpisodeSpec, Replay, SampleBuffer
from endmark.policies import linear_decay


@dataclass(frozen=True)
class ReplaySettings(AgentSettings):
    """What is learned from: samples of a replay."""

    gamma: float = 0.99
    """Discount of a step's future."""
    lr_updates: int = 0
    """Updates until learning rates have fallen to 0 in a straight line; 0: they stay as they are."""
    batch_size: int = 32
    """Episodes an update."""
    episodes_per_update: int = 1
    """New episodes between two updates."""
    replay_frames: int = 100_000
    """Frames that the replay holds; the oldest episodes make way."""
    priority_exponent: float = 0.0
    """How much likelier a sample is an episode of large TD errors (Schaul et al. 2016); 0: all are equally
    likely; 1: in proportion to them. 0.6 to 0.9 is usual."""
    priority_beta: float = 0.6
    """With `priority_exponent`: how much of that preference the weights of the loss take back, 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        inf = float("inf")
        check_ranges(self, gamma=(0, 1), lr_updates=(0, inf))
        check_ranges(self, priority_exponent=(0, 1), priority_beta=(0, 1))
        check_ranges(self, batch_size=(1, inf), episodes_per_update=(1, inf), replay_frames=(1, inf))

    def store(self, spec: EpisodeSpec, generator: torch.Generator, buffer: SampleBuffer | None) -> Replay:
        """A replay that gives a sample for every `episodes_per_update` new episodes."""
        return Replay(
            spec,
            self.replay_frames,
            batch_size=self.batch_size,
            every=self.episodes_per_update,
            generator=generator,
            buffer=buffer,
            exponent=self.priority_exponent,
            beta=self.priority_beta,
        )


@dataclass(frozen=True)
class EpsilonSettings(ReplaySettings):
    """The same, with a share of random actions that falls over time."""

    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions from `epsilon_steps` on; before that it falls in a straight line."""
    epsilon_steps: int = 50_000
    """Environment steps until `epsilon_end` is reached."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, epsilon_start=(0, 1), epsilon_end=(0, 1), epsilon_steps=(0, float("inf")))

    @property
    def epsilon_at(self) -> Callable[[int], float]:
        """ε after so many environment steps."""
        return linear_decay(self.epsilon_start, self.epsilon_end, self.epsilon_steps)
