"""Windows, attention and features over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants.common import (
    HIDDEN,
    LIMIT,
    N_ACTIONS,
    N_OBS,
    Batch,
    mean_over,
    mlp,
    mutant,
    pick,
    real,
    seeded,
    solo,
)


def step_obs(batch: Batch, mask: Tensor) -> Tensor:
    """Observations of the real steps, zeros elsewhere."""
    return torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)


def nll_of_actions(logits: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Each step's -log p(action), (B, T), 0 elsewhere."""
    actions = torch.where(mask, batch["actions"][:, :-1], 0)
    return torch.where(mask, -pick(logits.log_softmax(-1), actions), 0.0)


@mutant(
    "The target is the mean of the next H frames, and near the end the window reaches into padding.",
    probes=("poison", "padding", "bootstrap"),
)
def window_over_the_end(right: bool, seed: int) -> Case:
    """Subgoals: predict the mean of the observations at this step and the two that follow."""
    horizon = 3
    net = seeded(seed, lambda: mlp(N_OBS, N_OBS))

    def loss(batch: Batch) -> dict[str, Tensor]:
        mask = real(batch)
        obs = batch["obs"][:, :-1]
        n_columns = mask.shape[1]
        total, count = torch.zeros_like(obs), torch.zeros_like(obs[..., :1])
        for i in range(min(horizon, n_columns)):
            inside = mask[:, i:] if right else torch.ones_like(mask[:, i:])
            ahead = torch.where(inside[..., None], obs[:, i:], 0.0)
            total[:, : n_columns - i] += ahead
            count[:, : n_columns - i] += inside[..., None]
        subgoal = total / count.clamp(min=1)
        error = (net(step_obs(batch, mask)) - subgoal).square().sum(2)
        per_step = torch.where(mask, error, 0.0)
        return {"loss": mean_over(mask, per_step), "per_step": per_step}

    return Case(loss, solo(seed, "obs"), net, reward=None, bootstraps=False, horizon=horizon - 1)


class Attention(nn.Module):
    """One head of self-attention over (B, T, 4); `may_look` (B, T, T) is True where step i may look at j."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(N_OBS, HIDDEN)
        self.query_key_value = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.head = nn.Linear(HIDDEN, N_ACTIONS)

    def forward(self, x: Tensor, may_look: Tensor) -> Tensor:
        x = self.embed(x)
        query, key, value = self.query_key_value(x).chunk(3, dim=2)
        scores = query @ key.transpose(1, 2) / HIDDEN**0.5
        weights = scores.masked_fill(~may_look, -1e9).softmax(2)
        logits: Tensor = self.head(x + weights @ value)
        return logits


@mutant(
    "An encoder attends over the whole row without a key mask: padding takes part in every step.",
    probes=("poison", "padding", "bootstrap"),
)
def attention_without_key_mask(right: bool, seed: int) -> Case:
    """Recognise the actions of an episode, seen from its end."""
    net = seeded(seed, Attention)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = step_obs(batch, mask) if right else batch["obs"][:, :-1]
        may_look = mask[:, None, :].expand(-1, mask.shape[1], -1)
        if not right:
            may_look = torch.ones_like(may_look)
        return mean_over(mask, nll_of_actions(net(obs, may_look), batch, mask))

    return Case(loss, solo(seed, "obs", "actions"), net, reward=None, bootstraps=False)


@mutant(
    "A policy attends to the future: the key mask is there, the causal one is not.",
    probes=("causality",),
)
def attention_without_causal_mask(right: bool, seed: int) -> Case:
    net = seeded(seed, Attention)

    def loss(batch: Batch) -> dict[str, Tensor]:
        mask = real(batch)
        n_columns = mask.shape[1]
        may_look = mask[:, None, :].expand(-1, n_columns, -1)
        if right:
            may_look = may_look & torch.ones(n_columns, n_columns).tril().bool()
        nll = nll_of_actions(net(step_obs(batch, mask), may_look), batch, mask)
        return {"loss": mean_over(mask, nll), "per_step": nll}

    return Case(loss, solo(seed, "obs", "actions"), net, reward=None, bootstraps=False, horizon=0)


@mutant(
    "Observations are centred by their episode's mean, which depends on later frames.",
    probes=("causality",),
)
def centred_by_episode_mean(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> dict[str, Tensor]:
        mask = real(batch)
        obs = step_obs(batch, mask)
        total, count = obs.cumsum(1), mask[..., None].cumsum(1)
        if not right:
            total, count = total[:, -1:], count[:, -1:]
        centred = obs - total / count.clamp(min=1)
        nll = nll_of_actions(net(centred), batch, mask)
        return {"loss": mean_over(mask, nll), "per_step": nll}

    return Case(loss, solo(seed, "obs", "actions"), net, reward=None, bootstraps=False, horizon=0)


@mutant(
    "Time is a fraction of the batch's longest row, so it depends on the other episodes.",
    probes=("padding",),
)
def time_as_fraction_of_padded_length(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS + 1, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        longest = LIMIT if right else mask.shape[1]
        time = (torch.arange(mask.shape[1]) / longest).expand_as(mask)
        logits = net(torch.cat([step_obs(batch, mask), time[..., None]], 2))
        return mean_over(mask, nll_of_actions(logits, batch, mask))

    return Case(loss, solo(seed, "obs", "actions"), net, reward=None, bootstraps=False)


MUTANTS = (
    window_over_the_end,
    attention_without_key_mask,
    attention_without_causal_mask,
    centred_by_episode_mean,
    time_as_fraction_of_padded_length,
)
