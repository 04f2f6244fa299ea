"""Losses that sample: dropout and Gumbel noise do not hide what is wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.audit import Case
from support.mutants.common import (
    HIDDEN,
    N_ACTIONS,
    N_OBS,
    Batch,
    mlp,
    mutant,
    real,
    seeded,
    solo,
)


def with_dropout() -> nn.Sequential:
    return nn.Sequential(nn.Linear(N_OBS, HIDDEN), nn.Tanh(), nn.Dropout(0.3), nn.Linear(HIDDEN, 1))


@mutant(
    "Under dropout, the sum over real steps is divided by rows times columns.",
    probes=("padding", "weight"),
)
def padded_size_under_dropout(right: bool, seed: int) -> Case:
    net = seeded(seed, with_dropout)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        error = torch.where(mask, net(obs).squeeze(2) - batch["reward"][:, :-1], 0.0).square()
        return error.sum() / (mask.sum().clamp(min=1) if right else mask.numel())

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "Under dropout, the hidden state crosses the seam between episodes laid end to end.",
    probes=("company",),
)
def seam_under_dropout(right: bool, seed: int) -> Case:
    net = seeded(seed, with_dropout)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        first = torch.zeros_like(mask)
        first[:, 0] = True
        obs, reward = batch["obs"][:, :-1][mask], batch["reward"][:, :-1][mask]
        before = obs.roll(1, 0)
        if right:
            before = torch.where(first[mask][:, None], 0.0, before)
        prediction: Tensor = net((obs + 0.5 * before)[None]).flatten()
        return (prediction - reward).square().sum() / mask.sum().clamp(min=1)

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "Actions are drawn by Gumbel noise, and the loss is a mean of episode means.",
    probes=("weight",),
)
def episode_means_under_gumbel_noise(right: bool, seed: int) -> Case:
    """As MADDPG draws actions for its policies."""
    actor, critic = (
        seeded(seed, lambda: mlp(N_OBS, N_ACTIONS)),
        seeded(seed + 1, lambda: mlp(N_OBS + N_ACTIONS, 1)),
    )

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        actions = functional.gumbel_softmax(actor(obs))
        error = (critic(torch.cat([obs, actions], 2)).squeeze(2) - batch["reward"][:, :-1]).square()
        error = torch.where(mask, error, 0.0)
        if right:
            return error.sum() / mask.sum().clamp(min=1)
        return (error.sum(1) / mask.sum(1).clamp(min=1)).mean()

    return Case(loss, solo(seed, "obs", "reward"), [actor, critic], bootstraps=False)


MUTANTS = (padded_size_under_dropout, seam_under_dropout, episode_means_under_gumbel_noise)
