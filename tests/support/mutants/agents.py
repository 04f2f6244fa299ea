"""Agents that leave before their episode ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants.common import (
    GAMMA,
    HIDDEN,
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
    team,
)

FIELDS = ("obs", "actions", "reward", "alive")


def agent_td_error(net: nn.Module, batch: Batch, counted: Tensor, goes_on: Tensor) -> Tensor:
    """Independent Q-learning: TD errors of the pairs (step, agent) that are counted, end to end."""
    obs, actions, reward = batch["obs"], batch["actions"][:, :-1, :, 0], batch["reward"][:, :-1]
    with torch.no_grad():
        next_value = net(obs[:, 1:]).amax(3)
        target = reward + torch.where(goes_on, GAMMA * next_value, 0.0)  # (B, T, N)
    chosen = pick(net(obs[:, :-1][counted]), actions[counted])
    td_error: Tensor = chosen - target[counted]
    return td_error


@mutant(
    "The per-agent mask is dropped: the loss learns from agents that have left.",
    probes=("agents",),
)
def alive_dropped(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        alive = batch["alive"]
        counted = real(batch)[..., None].expand_as(alive[:, :-1])
        if right:
            counted = counted & alive[:, :-1]
        goes_on = ~ended(batch)[..., None] & alive[:, 1:]
        return agent_td_error(net, batch, counted, goes_on).square().sum() / counted.sum().clamp(min=1)

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "An agent's last step bootstraps from its observation after it has left, since the team goes on.",
    probes=("agents",),
)
def bootstrap_from_dead_agent(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        alive = batch["alive"]
        counted = real(batch)[..., None] & alive[:, :-1]
        goes_on = (~ended(batch)[..., None]).expand_as(counted)
        if right:
            goes_on = goes_on & alive[:, 1:]
        return agent_td_error(net, batch, counted, goes_on).square().sum() / counted.sum().clamp(min=1)

    return Case(loss, team(seed, *FIELDS), net)


@mutant(
    "The sum over (step, agent) pairs is divided by the living agents of all columns, not of real steps.",
    probes=("poison", "company"),
)
def denominator_over_agents(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        alive = batch["alive"]
        counted = real(batch)[..., None] & alive[:, :-1]
        goes_on = ~ended(batch)[..., None] & alive[:, 1:]
        total = agent_td_error(net, batch, counted, goes_on).square().sum()
        return total / (counted if right else alive).sum().clamp(min=1)

    return Case(loss, team(seed, *FIELDS), net)


class Communicating(nn.Module):
    """Each agent's logits from its own message and the mean of its team's."""

    def __init__(self) -> None:
        super().__init__()
        self.message = mlp(N_OBS, HIDDEN)
        self.head = mlp(2 * HIDDEN, N_ACTIONS)

    def forward(self, obs: Tensor, speaks: Tensor) -> Tensor:
        messages = torch.where(speaks[..., None], self.message(obs), 0.0)
        n_speakers = speaks.sum(-1)[..., None, None].clamp(min=1)
        heard = (messages.sum(-2, keepdim=True) / n_speakers).expand_as(messages)
        logits: Tensor = self.head(torch.cat([messages, heard], -1))
        return logits


@mutant(
    "Messages are averaged over all agents: the living listen to the dead.",
    probes=("agents",),
)
def dead_agents_speak(right: bool, seed: int) -> Case:
    """Policy gradient with communication."""
    net = seeded(seed, Communicating)

    def loss(batch: Batch) -> Tensor:
        alive, steps = batch["alive"][:, :-1], real(batch)
        counted = steps[..., None] & alive
        speaks = alive if right else torch.ones_like(alive)
        obs = torch.where(speaks[..., None], batch["obs"][:, :-1], 0.0)[steps]
        log_probs = net(obs, speaks[steps])[alive[steps]].log_softmax(1)
        log_prob = pick(log_probs, batch["actions"][:, :-1, :, 0][counted])
        reward = batch["reward"][:, :-1].expand_as(counted)[counted]
        return -(log_prob * reward).sum() / counted.sum().clamp(min=1)

    return float64(Case(loss, team(seed, *FIELDS), net, bootstraps=False))


@mutant(
    "HAPPO's factor also multiplies the ratios of agents that have left.",
    probes=("agents",),
)
def factor_of_the_dead(right: bool, seed: int) -> Case:
    """The policy of the agent that leaves has moved, so its ratio is not 1; then the other learns."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        alive, steps = batch["alive"][:, :-1], real(batch)
        obs = torch.where((steps[..., None] & alive)[..., None], batch["obs"][:, :-1], 0.0)
        if not right:
            obs = torch.where(steps[..., None, None], batch["obs"][:, :-1], 0.0)
        log_prob = pick(net(obs).log_softmax(3), batch["actions"][:, :-1, :, 0])
        reward = batch["reward"][:, :-1, 0]
        with torch.no_grad():
            ratio = (0.5 * log_prob[..., 1]).exp()  # of the agent that leaves
            if right:
                ratio = torch.where(alive[..., 1], ratio, 1.0)
        counted = steps & alive[..., 0]
        objective = torch.where(counted, ratio * log_prob[..., 0] * reward, 0.0)
        return -objective.sum() / counted.sum().clamp(min=1)

    return float64(Case(loss, team(seed, *FIELDS), net, bootstraps=False))


MUTANTS = (
    factor_of_the_dead,
    alive_dropped,
    bootstrap_from_dead_agent,
    denominator_over_agents,
    dead_agents_speak,
)
