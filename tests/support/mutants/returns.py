"""Bootstraps and backward recursions; terminations taken for truncations, and the reverse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case, hard_batch
from endmark.episodes import EpisodeSpec
from support.mutants.common import (
    GAMMA,
    N_ACTIONS,
    N_OBS,
    ActorCritic,
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

LAMBDA = 0.8
FIELDS = ("obs", "actions", "reward")


def frame_values(net: nn.Module, batch: Batch) -> Tensor:
    """A target network's value of every frame, (B, T+1), padding included."""
    with torch.no_grad():
        values: Tensor = net(batch["obs"]).squeeze(2)
    return values


def value_loss(net: nn.Module, batch: Batch, mask: Tensor, target: Tensor) -> Tensor:
    """Squared error at the real steps, to targets (B, T)."""
    value: Tensor = net(batch["obs"][:, :-1][mask]).squeeze(1)
    return (value - target[mask]).square().sum() / mask.sum().clamp(min=1)


def q_loss(net: nn.Module, batch: Batch, goes_on: Tensor) -> Tensor:
    """One-step Q-learning that bootstraps where `goes_on` (B, T)."""
    mask = real(batch)
    obs = batch["obs"]
    with torch.no_grad():
        next_value = net(obs[:, 1:]).amax(2)
        target = batch["reward"][:, :-1] + torch.where(goes_on, GAMMA * next_value, 0.0)
    chosen = pick(net(obs[:, :-1][mask]), batch["actions"][:, :-1][mask])
    return (chosen - target[mask]).square().sum() / mask.sum().clamp(min=1)


@mutant(
    "The lambda recursion starts in the last column: an episode cut off early gets the value of padding.",
    probes=("poison", "padding"),
)
def lambda_return_from_last_column(right: bool, seed: int) -> Case:
    """PyMARL's `build_td_lambda_targets`."""
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        reward, terminated = batch["reward"], ended(batch)
        target_qs = frame_values(net, batch)
        ret = torch.zeros_like(target_qs)
        ret[:, -1] = torch.where(terminated.any(1), 0.0, target_qs[:, -1])
        for t in reversed(range(mask.shape[1])):
            following = ret[:, t + 1]
            if right:
                followed = mask[:, t + 1] if t + 1 < mask.shape[1] else torch.zeros_like(mask[:, 0])
                following = torch.where(followed, following, target_qs[:, t + 1])
            mixed = (1 - LAMBDA) * target_qs[:, t + 1] + LAMBDA * following
            one_step = reward[:, t] + torch.where(terminated[:, t], 0.0, GAMMA * mixed)
            ret[:, t] = torch.where(mask[:, t], one_step, LAMBDA * GAMMA * following)
        return value_loss(net, batch, mask, ret[:, :-1])

    return Case(loss, solo(seed, "obs", "reward"), net)


@mutant(
    "The n-step window ends at the batch's last column instead of the episode's end.",
    probes=("poison", "padding", "bootstrap"),
)
def n_step_return_to_last_column(right: bool, seed: int) -> Case:
    n = 3
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        values, reward = frame_values(net, batch), batch["reward"]
        times = torch.arange(mask.shape[1]).expand_as(mask)
        last = mask.sum(1, keepdim=True) if right else mask.shape[1]
        stop = (times + n).clamp(max=last)
        ret = values.gather(1, stop)
        for i in reversed(range(n)):
            now = (times + i).clamp(max=mask.shape[1] - 1)
            one_more = reward.gather(1, now) + torch.where(ended(batch).gather(1, now), 0.0, GAMMA * ret)
            ret = torch.where(times + i < stop, one_more, ret)
        return value_loss(net, batch, mask, ret)

    return Case(loss, solo(seed, "obs", "reward"), net)


@mutant(
    "The discounted sum starts with the value of the last column and runs through padding.",
    probes=("poison", "padding", "bootstrap"),
)
def return_bootstrapped_in_last_column(right: bool, seed: int) -> Case:
    """A2C, as written for rollouts that all have the same length."""
    net = seeded(seed, ActorCritic)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs, n_steps = batch["obs"], mask.shape[1]
        with torch.no_grad():
            value = net.value(obs)
            ret = torch.zeros_like(batch["reward"])
            ret[:, -1] = value[:, -1]
            for t in reversed(range(n_steps)):
                onwards = torch.where(ended(batch)[:, t], 0.0, GAMMA * ret[:, t + 1])
                ret[:, t] = batch["reward"][:, t] + onwards
                if right:  # after the end, the return of a frame is its value
                    ret[:, t] = torch.where(mask[:, t], ret[:, t], value[:, t])
        advantage = (ret - value)[:, :-1][mask]
        steps = obs[:, :-1][mask]
        log_prob = pick(net.log_probs(steps), batch["actions"][:, :-1][mask])
        losses = (net.value(steps) - ret[:, :-1][mask]).square() - log_prob * advantage
        return losses.sum() / mask.sum().clamp(min=1)

    return float64(Case(loss, solo(seed, *FIELDS), net))


@mutant(
    "GAE is given `filled` as not-done, and the final frame is filled: terminal steps bootstrap.",
    probes=("bootstrap",),
)
def gae_with_validity_as_not_done(right: bool, seed: int) -> Case:
    net = seeded(seed, ActorCritic)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = batch["obs"]
        followed = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        not_done = ~ended(batch) if right else batch["filled"][:, 1:, 0].bool()
        with torch.no_grad():
            value = net.value(obs)
            delta = batch["reward"][:, :-1] + torch.where(not_done, GAMMA * value[:, 1:], 0.0) - value[:, :-1]
            advantage = torch.zeros_like(delta)
            last = torch.zeros_like(delta[:, 0])
            for t in reversed(range(mask.shape[1])):
                last = delta[:, t] + torch.where(followed[:, t], GAMMA * LAMBDA * last, 0.0)
                advantage[:, t] = last
        steps = obs[:, :-1][mask]
        log_prob = pick(net.log_probs(steps), batch["actions"][:, :-1][mask])
        target = (advantage + value[:, :-1])[mask]
        losses = (net.value(steps) - target).square() - log_prob * advantage[mask]
        return losses.sum() / mask.sum().clamp(min=1)

    return float64(Case(loss, solo(seed, *FIELDS), net))


@mutant(
    "GAE does not stop at a truncated end, so the TD errors of padding run into real steps.",
    probes=("poison", "padding"),
)
def gae_through_truncation(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        value = frame_values(net, batch)
        goes_on = ~ended(batch)
        delta = batch["reward"][:, :-1] + torch.where(goes_on, GAMMA * value[:, 1:], 0.0) - value[:, :-1]
        if right:
            delta = torch.where(mask, delta, 0.0)
        advantage = torch.zeros_like(delta)
        last = torch.zeros_like(delta[:, 0])
        for t in reversed(range(mask.shape[1])):
            last = delta[:, t] + torch.where(goes_on[:, t], GAMMA * LAMBDA * last, 0.0)
            advantage[:, t] = last
        return value_loss(net, batch, mask, advantage + value[:, :-1])

    return Case(loss, solo(seed, "obs", "reward"), net)


@mutant(
    "Flags are shifted by one: a step does not bootstrap if the next one terminates.",
    probes=("bootstrap",),
)
def terminated_shifted_by_one(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        terminated = batch["terminated"][..., 0] != 0
        return q_loss(net, batch, goes_on=~(terminated[:, :-1] if right else terminated[:, 1:]))

    return Case(loss, solo(seed, *FIELDS), net)


@mutant(
    "`terminated` and `truncated` are merged: both end the bootstrap, so the time limit is a bad state.",
    probes=("bootstrap",),
)
def truncation_as_termination(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        done = batch["terminated"] if right else batch["terminated"] | batch["truncated"]
        return q_loss(net, batch, goes_on=done[:, :-1, 0] == 0)

    return Case(loss, solo(seed, *FIELDS, "truncated"), net)


@mutant(
    "The last filled step counts as terminal, however the episode ended.",
    probes=("bootstrap",),
)
def end_of_data_as_termination(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        followed = torch.cat([real(batch)[:, 1:], torch.zeros_like(real(batch)[:, :1])], 1)
        return q_loss(net, batch, goes_on=~ended(batch) if right else followed)

    return Case(loss, solo(seed, *FIELDS), net)


@mutant(
    "Every step bootstraps, the terminal one too.",
    probes=("bootstrap",),
)
def termination_as_truncation(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        goes_on = ~ended(batch)
        return q_loss(net, batch, goes_on if right else torch.ones_like(goes_on))

    return Case(loss, solo(seed, *FIELDS), net)


@mutant(
    "The environment resets itself after a truncation: the value of the next episode's first frame is used.",
    probes=("poison", "padding"),
)
def bootstrap_from_reset_obs(right: bool, seed: int) -> Case:
    """Columns are steps, with one episode a row; the episode after the automatic reset is masked out.

    `final_obs` is what the environment returned when the episode ended, as vector environments do.
    """
    net = seeded(seed, lambda: mlp(N_OBS, 1))
    spec = EpisodeSpec.of(n_agents=1, n_actions=N_ACTIONS, episode_limit=7, obs_shape=(N_OBS,))
    padded, reset = hard_batch(spec, seed), hard_batch(spec, seed + 1)
    mask = padded["mask"][..., 0]
    obs, flagged = padded["obs"][:, :, 0], padded["terminated"] | padded["truncated"]
    batch = {
        "obs": torch.where(mask[..., None], obs[:, :-1], reset["obs"][:, :-1, 0].roll(2, 1)),
        "final_obs": torch.where(flagged[:, :-1] != 0, obs[:, 1:], 0.0),
        "reward": padded["reward"][:, :-1, 0],
        "ends": flagged[:, :-1, 0],
        "terminates": padded["terminated"][:, :-1, 0],
        "mask": mask.long(),
    }

    def loss(batch: Batch) -> Tensor:
        mask = batch["mask"] != 0
        obs, final_obs = batch["obs"], batch["final_obs"]
        next_obs = torch.cat([obs[:, 1:], final_obs[:, -1:]], 1)
        if right:
            next_obs = torch.where(batch["ends"][..., None] != 0, final_obs, next_obs)
        with torch.no_grad():
            next_value = net(next_obs).squeeze(2)
            target = batch["reward"] + torch.where(batch["terminates"] != 0, 0.0, GAMMA * next_value)
        error: Tensor = net(obs[mask]).squeeze(1) - target[mask]
        return error.square().sum() / mask.sum().clamp(min=1)

    return Case(
        loss,
        batch,
        net,
        frame_fields=("obs",),
        step_fields=("final_obs", "reward", "ends", "terminates"),
        mask="mask",
        bootstraps=False,
    )


MUTANTS = (
    lambda_return_from_last_column,
    n_step_return_to_last_column,
    return_bootstrapped_in_last_column,
    gae_with_validity_as_not_done,
    gae_through_truncation,
    terminated_shifted_by_one,
    truncation_as_termination,
    end_of_data_as_termination,
    termination_as_truncation,
    bootstrap_from_reset_obs,
)
