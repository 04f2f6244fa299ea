"""A small pool of trained runs and scripted partners, on Level-Based Foraging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from endmark.algorithms import IPPOConfig, IQLConfig
from endmark.episodes import Seen
from endmark.training import TrainConfig, train

ENV = "lbforaging:Foraging-5x5-2p-1f-v3"
FORAGER, RANDOM = "endmark.policies.scripted:nearest_food", "endmark.policies.scripted:random"
IQL = TrainConfig[Any](
    algorithm=IQLConfig(hidden_size=8, batch_size=2, replay_frames=2000),
    env=ENV,
    steps=120,
    n_envs=2,
    eval_every=1000,
    eval_episodes=1,
    store_replay=False,
    device="cpu",
)


def trained(config: TrainConfig[Any], directory: Path) -> None:
    """A run in this directory."""
    train(config, directory, lambda counters, greedy: None)


def make_pool(directory: Path) -> None:
    """Runs: two seeds of IQL, IPPO without shared networks, and one trained with partners.

    training/a, training/b, heldout/a, taught
    """
    ippo = IPPOConfig(hidden_size=8, batch_size=2, epochs=1, minibatches=1, share="none")
    trained(replace(IQL, seed=1), directory / "training" / "a")
    trained(replace(IQL, seed=2), directory / "training" / "b")
    trained(replace(IQL, algorithm=ippo, seed=3, n_envs=3), directory / "heldout" / "a")
    partners = (FORAGER, str(directory / "heldout" / "a"))
    trained(replace(IQL, seed=4, partners=partners, learner_agents=(1,)), directory / "taught")


SEATED: list[tuple[int, tuple[bool, ...]]] = []
"""What `watcher` saw: each episode's seed, and the agents that it acts for."""


def watcher(seen: Seen, generator: torch.Generator) -> Tensor:
    """Stays where it is, and notes where it sits."""
    assert seen.seats is not None
    begun = (seen.first & (seen.seed > 0)).nonzero()[:, 0].tolist()  # no seed: no episode is played there
    SEATED.extend((int(seen.seed[k]), tuple(seen.seats.learns[k].tolist())) for k in begun)
    return seen.legal.long().argmax(-1)


def fails(seen: Seen, generator: torch.Generator) -> Tensor:
    """A script with a bug."""
    raise KeyError("no such thing")


def gives_floats(seen: Seen, generator: torch.Generator) -> Tensor:
    """Another one."""
    return torch.zeros(seen.alive.shape)
