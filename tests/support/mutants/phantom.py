"""Phantom steps, and masks of actions that are zeros in padding: a step whose target is -9999999."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from endmark.episodes import step_mask
from support.mutants.common import (
    GAMMA,
    N_ACTIONS,
    N_OBS,
    Batch,
    float64,
    mlp,
    mutant,
    pick,
    real,
    seeded,
    solo,
    team,
)
from support.mutants.masks import three_lines

FIELDS = ("obs", "actions", "reward", "avail_actions")
ILLEGAL = -9999999.0


def q_error(net: nn.Module, batch: Batch, goes_on: Tensor, team_sum: bool) -> Tensor:
    """TD errors (B, T, N), or (B, T, 1) of a team's sum, as PyMARL computes them: nothing is selected."""
    q = net(batch["obs"])
    chosen = pick(q[:, :-1], batch["actions"][:, :-1].squeeze(3))
    with torch.no_grad():
        best = q[:, 1:].masked_fill(batch["avail_actions"][:, 1:] == 0, ILLEGAL).amax(3)
        if team_sum:
            best = best.sum(2, keepdim=True)
        target = batch["reward"][:, :-1] + GAMMA * goes_on * best
    td_error: Tensor = (chosen.sum(2, keepdim=True) if team_sum else chosen) - target
    return td_error


def masked(td_error: Tensor, mask: Tensor) -> Tensor:
    mask = mask.float().expand_as(td_error)
    return (td_error * mask).square().sum() / mask.sum().clamp(min=1)


def goes_on_of(batch: Batch) -> Tensor:
    return 1 - batch["terminated"][:, :-1].float()


@mutant(
    "VDN with the three lines: a phantom step, whose target is -9999999, swamps every gradient.",
    probes=("poison",),
)
def swamped_vdn(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"]) if right else three_lines(batch)
        return masked(q_error(net, batch, goes_on_of(batch), team_sum=True), mask)

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "Independent Q-learning with the three lines, swamped likewise.",
    probes=("poison",),
)
def swamped_iql(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"]) if right else three_lines(batch)
        return masked(q_error(net, batch, goes_on_of(batch), team_sum=False), mask)

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "A phantom step swamps the gradient, and behind it the terminal step is dropped.",
    probes=("weight",),
)
def terminal_step_dropped_while_swamped(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"]) if right else three_lines(batch)
        if not right:
            mask = mask & (batch["terminated"][:, :-1] == 0)
        return masked(q_error(net, batch, goes_on_of(batch), team_sum=True), mask)

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "An early cut is not bootstrapped from, and the final frame moves the loss through a phantom step only.",
    probes=("bootstrap",),
)
def early_cut_hidden_by_a_phantom_step(right: bool, seed: int) -> Case:
    """The last real step before the last column counts as terminal; a cut at the last column bootstraps."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        steps, goes_on = step_mask(batch["filled"], batch["terminated"]), goes_on_of(batch)
        if right:
            return masked(q_error(net, batch, goes_on, team_sum=True), steps)
        last = steps & ~torch.cat([steps[:, 1:], torch.ones_like(steps[:, :1])], 1)
        return masked(q_error(net, batch, goes_on * ~last, team_sum=True), three_lines(batch))

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "SARSA's mask is of frames: the final frame of every episode counts as a step.",
    probes=("poison",),
)
def sarsa_with_a_mask_of_frames(right: bool, seed: int) -> Case:
    """The twin bootstraps by the action that was chosen at a truncated final frame, which is right."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch) if right else batch["filled"][:, :-1, 0] != 0
        chosen = pick(net(batch["obs"]), batch["actions"])
        following = torch.where(batch["terminated"][:, :-1, 0] != 0, 0.0, GAMMA * chosen[:, 1:].detach())
        error = (chosen[:, :-1] - batch["reward"][:, :-1] - following)[mask]
        return error.square().sum() / mask.sum().clamp(min=1)

    return Case(loss, solo(seed, "obs", "actions", "reward"), net)


@mutant(
    "COMA's critic bootstraps by the next action after a terminal step, too.",
    probes=("poison", "bootstrap"),
)
def coma_next_action_after_the_end(right: bool, seed: int) -> Case:
    critic = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    actor = seeded(seed + 1, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        q = critic(batch["obs"])
        chosen = pick(q, batch["actions"])
        ended = batch["terminated"][:, :-1, 0] != 0
        if not right:
            ended = torch.zeros_like(ended)
        target = batch["reward"][:, :-1] + torch.where(ended, 0.0, GAMMA * chosen[:, 1:].detach())
        critic_loss = (chosen[:, :-1] - target)[mask].square().sum()
        log_probs = actor(batch["obs"][:, :-1][mask]).log_softmax(1)
        taken = q[:, :-1][mask].detach()
        baseline = (log_probs.exp() * taken).sum(1)
        actions = batch["actions"][:, :-1][mask]
        advantage = (pick(taken, actions) - baseline).detach()
        actor_loss = -(pick(log_probs, actions) * advantage).sum()
        total: Tensor = critic_loss + actor_loss
        return total / mask.sum().clamp(min=1)

    return float64(Case(loss, solo(seed, "obs", "actions", "reward"), [critic, actor]))


MUTANTS = (
    swamped_vdn,
    swamped_iql,
    terminal_step_dropped_while_swamped,
    early_cut_hidden_by_a_phantom_step,
    sarsa_with_a_mask_of_frames,
    coma_next_action_after_the_end,
)
