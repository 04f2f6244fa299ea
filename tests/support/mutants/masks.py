"""Masks and denominators: which steps count, and the number that their sum is divided by."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.audit import Case
from endmark.episodes import step_mask
from support.mutants.common import (
    GAMMA,
    N_ACTIONS,
    N_OBS,
    Batch,
    float64,
    mean_over,
    mlp,
    mutant,
    pick,
    real,
    seeded,
    solo,
    team,
)

TEAM_FIELDS = ("obs", "actions", "reward")


def vdn_td_error(net: nn.Module, batch: Batch, mask: Tensor) -> Tensor:
    """TD errors of the team's summed value at the steps of the mask (B, T, 1), end to end."""
    steps = mask.squeeze(2)
    obs, actions, reward = batch["obs"], batch["actions"][:, :-1][steps], batch["reward"][:, :-1][steps]
    chosen = net(obs[:, :-1][steps]).gather(2, actions).squeeze(2).sum(1, keepdim=True)
    with torch.no_grad():
        next_value = net(obs[:, 1:][steps]).amax(2).sum(1, keepdim=True)
        goes_on = batch["terminated"][:, :-1][steps] == 0
        target = reward + torch.where(goes_on, GAMMA * next_value, 0.0)
    td_error: Tensor = chosen - target
    return td_error


def mean_square(td_error: Tensor) -> Tensor:
    return td_error.square().sum() / max(td_error.numel(), 1)


def three_lines(batch: Batch) -> Tensor:
    terminated = batch["terminated"][:, :-1].float()
    mask = batch["filled"][:, :-1].float()
    mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])
    return mask.bool()


@mutant(
    "The three lines count a phantom step at the final frame of an episode that was cut off early.",
    probes=("poison", "padding", "company"),
)
def shifted_mask_on_truncation(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"]) if right else three_lines(batch)
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "The three lines hide one step after the end, and count later stale steps that are still filled.",
    probes=("poison", "padding", "company"),
)
def shifted_mask_on_stale_frames(right: bool, seed: int) -> Case:
    """A slot of a ring buffer that held a longer episode before: frames after the end are still filled."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    batch, older = team(seed, *TEAM_FIELDS), team(seed + 1, *TEAM_FIELDS)
    terminated = batch["terminated"].amax(1, keepdim=True).bool()  # the rows (B, 1, 1)
    after = (batch["filled"] == 0) & terminated
    for name in TEAM_FIELDS:
        stale = after.reshape(*after.shape, *[1] * (batch[name].ndim - 3))
        batch[name] = torch.where(stale, older[name].roll(3, 1), batch[name])
    batch["filled"] = torch.where(terminated, 1, batch["filled"])

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"]) if right else three_lines(batch)
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, batch, net)


@mutant(
    "The mask is `filled` alone: the final frame, on which nobody acted, counts as a step.",
    probes=("poison", "padding", "company", "bootstrap"),
)
def filled_alone(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        filled, terminated = batch["filled"], batch["terminated"]
        mask = step_mask(filled, terminated) if right else filled[:, :-1].bool()
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "The mask is 1 - terminated: it drops the terminal step, which has the reward, and keeps padding.",
    probes=("weight", "poison", "padding", "company", "bootstrap", "empty"),
)
def one_minus_terminated(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        filled, terminated = batch["filled"], batch["terminated"]
        mask = step_mask(filled, terminated) if right else (1 - terminated[:, :-1]).bool()
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "Steps that terminated are left out, since 'they have no next state': their reward is never learnt.",
    probes=("weight", "company"),
)
def terminal_step_dropped(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"])
        if not right:
            mask = mask & (batch["terminated"][:, :-1] == 0)
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "The batch is trimmed to the steps of its longest episode instead of its frames: the last step is lost.",
    probes=("weight", "company", "bootstrap"),
)
def trimmed_one_short(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        longest = max(int(batch["filled"].sum(1).amax()), 2)  # in frames
        columns = longest if right else longest - 1
        batch = {name: tensor[:, :columns] for name, tensor in batch.items()}
        mask = step_mask(batch["filled"], batch["terminated"])
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "The mean is taken over the padded tensor; no mask at all.",
    probes=("poison", "padding", "weight", "bootstrap", "empty", "company"),
)
def mean_over_padded(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = step_mask(batch["filled"], batch["terminated"])
        if not right:
            mask = torch.ones_like(mask)
        return mean_square(vdn_td_error(net, batch, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


@mutant(
    "The mean of x * mask divides by the padded size: the more padding, the smaller the loss.",
    probes=("padding", "weight"),
)
def mean_of_masked(right: bool, seed: int) -> Case:
    """Behaviour cloning."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        actions = torch.where(mask, batch["actions"][:, :-1], 0)
        nll = functional.cross_entropy(net(obs).flatten(0, 1), actions.flatten(), reduction="none")
        masked = nll.view_as(mask) * mask
        return masked.sum() / mask.sum().clamp(min=1) if right else masked.mean()

    return Case(loss, solo(seed, "obs", "actions"), net, reward=None, bootstraps=False)


@mutant(
    "The sum over real steps is divided by rows times columns.",
    probes=("padding", "weight"),
)
def denominator_of_padded_size(right: bool, seed: int) -> Case:
    """Policy gradient with a reward-to-go of one step, on log-probabilities of the steps."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs, actions = batch["obs"][:, :-1][mask], batch["actions"][:, :-1][mask]
        log_prob = pick(net(obs).log_softmax(-1), actions)
        objective = (log_prob * batch["reward"][:, :-1][mask]).sum()
        n_rows, n_columns = mask.shape
        return -objective / (mask.sum().clamp(min=1) if right else n_rows * n_columns)

    return float64(Case(loss, solo(seed, "obs", "actions", "reward"), net, bootstraps=False))


@mutant(
    "The loss is the mean of the episodes' means: a step of a short episode weighs more than one of a long.",
    probes=("weight",),
)
def mean_of_episode_means(right: bool, seed: int) -> Case:
    """Regression of the reward."""
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        error = torch.where(mask, net(obs).squeeze(2) - batch["reward"][:, :-1], 0.0).square()
        if right:
            return mean_over(mask, error)
        return (error.sum(1) / mask.sum(1).clamp(min=1)).mean()

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "Rewards are read one column too late: the first one is lost, and padding comes in.",
    probes=("weight", "poison", "padding"),
)
def reward_shifted_by_one(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        reward = batch["reward"] if right else torch.roll(batch["reward"], -1, 1)
        mask = step_mask(batch["filled"], batch["terminated"])
        return mean_square(vdn_td_error(net, {**batch, "reward": reward}, mask))

    return Case(loss, team(seed, *TEAM_FIELDS), net)


MUTANTS = (
    shifted_mask_on_truncation,
    shifted_mask_on_stale_frames,
    filled_alone,
    one_minus_terminated,
    terminal_step_dropped,
    trimmed_one_short,
    mean_over_padded,
    mean_of_masked,
    denominator_of_padded_size,
    mean_of_episode_means,
    reward_shifted_by_one,
)
