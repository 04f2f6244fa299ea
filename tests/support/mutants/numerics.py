"""NaN behind a mask, writes into the batch, means of nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from endmark.audit import Case
from support.mutants.common import (
    GAMMA,
    N_ACTIONS,
    N_OBS,
    Batch,
    ended,
    float64,
    mlp,
    mutant,
    pick,
    real,
    seeded,
    solo,
)


@mutant(
    "The log of a stored probability is masked by multiplication: 0 * log(0) is NaN.",
    probes=("poison", "padding"),
)
def nan_times_zero(right: bool, seed: int) -> Case:
    """Off-policy policy gradient with the behaviour policy's probabilities; padding holds ones."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    batch = solo(seed, "obs", "actions", "reward")
    generator = torch.Generator().manual_seed(seed)
    probability = 0.2 + 0.7 * torch.rand(batch["reward"].shape, generator=generator)
    batch["behaviour_prob"] = torch.where(batch["filled"][..., 0] != 0, probability, 1.0)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        actions = torch.where(mask, batch["actions"][:, :-1], 0)
        behaviour = batch["behaviour_prob"][:, :-1]
        if right:
            behaviour = torch.where(mask, behaviour, 1.0)
        log_ratio = pick(net(obs).log_softmax(2), actions) - behaviour.log()
        objective = log_ratio.exp() * torch.where(mask, batch["reward"][:, :-1], 0.0)
        return -(objective * mask).sum() / mask.sum().clamp(min=1)

    return float64(
        Case(loss, batch, net, step_fields=("actions", "reward", "behaviour_prob"), bootstraps=False)
    )


@mutant(
    "Illegal actions get -inf before the softmax. Padding has no legal action, which gives NaN, and NaN * 0.",
    probes=("poison", "padding", "bootstrap", "empty"),
)
def no_legal_action_in_padding(right: bool, seed: int) -> Case:
    """Behaviour cloning. In the batch as it is, every action is legal where there is no step."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    batch = solo(seed, "obs", "actions", "avail_actions")
    batch["avail_actions"][:, :-1] |= ~real(batch)[..., None]

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        actions = torch.where(mask, batch["actions"][:, :-1], 0)
        avail = batch["avail_actions"][:, :-1]
        if right:
            avail = avail | ~mask[..., None]
        log_probs = net(obs).masked_fill(~avail, -torch.inf).log_softmax(2)
        log_prob = pick(log_probs, actions) * mask
        return -log_prob.sum() / mask.sum().clamp(min=1)

    return Case(loss, batch, net, reward=None, bootstraps=False)


@mutant(
    "The soft value of a frame without a legal action is -inf, and is hidden by multiplying with 0.",
    probes=("poison", "padding", "bootstrap", "empty"),
)
def soft_value_without_legal_action(right: bool, seed: int) -> Case:
    """Soft Q-learning. In the batch as it is, padding has every action legal."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    batch = solo(seed, "obs", "actions", "reward", "avail_actions")
    batch["avail_actions"] |= batch["filled"] == 0

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        actions = torch.where(mask, batch["actions"][:, :-1], 0)
        reward = torch.where(mask, batch["reward"][:, :-1], 0.0)
        goes_on = mask & ~ended(batch)
        avail = batch["avail_actions"][:, 1:]
        if right:
            avail = avail | ~goes_on[..., None]
        with torch.no_grad():
            next_obs = torch.where(goes_on[..., None], batch["obs"][:, 1:], 0.0)
            soft_value = net(next_obs).masked_fill(~avail, -torch.inf).logsumexp(2)
            target = reward + GAMMA * goes_on * soft_value
        td_error: Tensor = (pick(net(obs), actions) - target) * mask
        return td_error.square().sum() / mask.sum().clamp(min=1)

    return Case(loss, batch, net)


@mutant(
    "`filled` is float32 already, so `.float()` is a view, and masking in place overwrites the batch.",
    probes=("purity",),
)
def filled_written_in_place(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))
    batch = solo(seed, "obs", "reward")
    batch["filled"] = batch["filled"].float()

    def loss(batch: Batch) -> Tensor:
        terminated = batch["terminated"].float()
        goes_on = batch["filled"].float()
        if right:
            goes_on = goes_on.clone()
        goes_on[:, 1:] *= 1 - terminated[:, :-1]  # a final frame behind a terminal step does not count
        goes_on = goes_on.cumprod(1)
        mask = torch.maximum(goes_on[:, 1:], terminated[:, :-1]) * goes_on[:, :-1]
        steps = mask[..., 0] != 0
        prediction: Tensor = net(batch["obs"][:, :-1][steps]).squeeze(1)
        return (prediction - batch["reward"][:, :-1][steps]).square().sum() / mask.sum().clamp(min=1)

    return Case(loss, batch, net, bootstraps=False)


@mutant(
    "Rewards are scaled in place, so every evaluation makes them smaller.",
    probes=("purity",),
)
def reward_scaled_in_place(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        reward = batch["reward"]
        if right:
            reward = reward * 0.1
        else:
            reward *= 0.1
        prediction: Tensor = net(batch["obs"][:, :-1][mask]).squeeze(1)
        return (prediction - reward[:, :-1][mask]).square().sum() / mask.sum().clamp(min=1)

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "A batch without a real step gives the mean of nothing, NaN, and the optimiser takes it.",
    probes=("empty",),
)
def mean_of_nothing(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        prediction: Tensor = net(batch["obs"][:, :-1][mask]).squeeze(1)
        error = (prediction - batch["reward"][:, :-1][mask]).square()
        return error.sum() / mask.sum().clamp(min=1) if right else error.mean()

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


MUTANTS = (
    nan_times_zero,
    no_legal_action_in_padding,
    soft_value_without_legal_action,
    filled_written_in_place,
    reward_scaled_in_place,
    mean_of_nothing,
)
