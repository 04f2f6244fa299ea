"""The contracts of an algorithm: its config, and the learner that the config makes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, EpisodeSpec, SampleBuffer, Store
from endmark.policies import Policy


@runtime_checkable
class Learner(Protocol):
    """Learns from batches of whole episodes.

    spec: the fields of the episodes that it learns from: the environment's and those that its policy adds.
    networks: every module, target networks and running moments included; a checkpoint holds their tensors.
    actor: the part of `networks` that acts. updates: how many there have been.
    """

    spec: EpisodeSpec
    updates: int

    @property
    def networks(self) -> nn.Module:
        """Every module."""
        ...

    @property
    def actor(self) -> nn.Module:
        """What acts: an `Actor`, or a module of another shape that `policy` takes."""
        ...

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss`, the scalar to minimise, and scalars for the log; a pure function of networks and batch.

        Of a prioritised sample, which has the step field `importance`, also `priority` [E].
        """
        ...

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Learn from the batch, on the networks' device; scalars for the log, without gradient.

        Of a prioritised sample also `priority` [E], which goes back to the replay.
        """
        ...

    def policy(self, actor: Any, n_envs: int, generator: torch.Generator) -> Policy:
        """How to act while training, by this actor: the learner's own, or a copy of it."""
        ...

    def greedy_policy(self, n_envs: int) -> Policy:
        """How to act in an evaluation. Its only output is `actions`, and it draws no random numbers."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        ...


@runtime_checkable
class AlgorithmConfig(Protocol):
    """The settings of an algorithm: a frozen dataclass whose fields have defaults and a sentence each.

    METRICS: every key that the learner logs, with a sentence on its meaning.
    """

    METRICS: ClassVar[Mapping[str, str]]

    def learner(self, spec: EpisodeSpec, device: torch.device) -> Learner:
        """The learner, untrained, for an environment with this spec."""
        ...

    def store(self, spec: EpisodeSpec, generator: torch.Generator, buffer: SampleBuffer | None) -> Store:
        """The store of the episodes to learn from; `spec` is the learner's.

        buffer: memory for sampled batches; None if a batch must outlast the next one.
        """
        ...


def check_ranges(config: object, **ranges: tuple[float | int, float | int]) -> None:
    """ValueError for the first field of `config` outside its range, both ends included, or not finite."""
    for name, (low, high) in ranges.items():
        given = getattr(config, name)
        if not (low <= given <= high and given < math.inf):
            want = f"{low:g} to {high:g}" if high < math.inf else f"at least {low:g}, and finite"
            raise ValueError(f"{name}: given {given}, want {want}")


def check_positive(config: object, *names: str) -> None:
    """ValueError for the first of these fields of `config` that is not more than 0, or not finite."""
    for name in names:
        if not 0 < (given := getattr(config, name)) < math.inf:
            raise ValueError(f"{name}: given {given}, want more than 0, and finite")
