"""Buffers of rollouts, chunks of them for recurrent networks, and what a team's return is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants.common import (
    GAMMA,
    HIDDEN,
    LIMIT,
    N_ACTIONS,
    N_OBS,
    Batch,
    Recurrent,
    ended,
    float64,
    mlp,
    mutant,
    pick,
    real,
    seeded,
    solo,
    team,
)

CHUNK = 4


def chunked(net: nn.Module, x: Tensor, right: bool) -> Tensor:
    """A recurrent network on rows (R, T, n_in), each cut into chunks of 4 that start from zeros: (R, T).

    The mutant cuts the rows laid end to end, as on-policy code does, so a chunk may run over a seam.
    """
    n_rows, n_columns = x.shape[:2]
    if right:
        x = nn.functional.pad(x, (0, 0, 0, -n_columns % CHUNK))
        own: Tensor = net(x.reshape(-1, CHUNK, x.shape[2])).reshape(n_rows, -1)[:, :n_columns]
        return own
    flat = x.reshape(-1, x.shape[2])
    chunks = nn.functional.pad(flat, (0, 0, 0, -len(flat) % CHUNK)).reshape(-1, CHUNK, x.shape[2])
    y: Tensor = net(chunks).reshape(-1)[: len(flat)].reshape(n_rows, n_columns)
    return y


def mean_square(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, prediction - target, 0.0).square().sum() / mask.sum().clamp(min=1)


@mutant(
    "Recurrent chunks run over the seam between two agents: 7 steps are no multiple of 4.",
    probes=("seams", "company", "padding"),
)
def chunks_over_agents(right: bool, seed: int) -> Case:
    """Rows (episode, agent); a reward model of a team."""
    net = seeded(seed, lambda: Recurrent(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None, None], batch["obs"][:, :-1], 0.0)
        rows = obs.transpose(1, 2).flatten(0, 1)
        prediction = chunked(net, rows, right).view(len(mask), -1, mask.shape[1]).sum(1)
        return mean_square(prediction, batch["reward"][:, :-1, 0], mask)

    return Case(loss, team(seed, "obs", "actions", "reward"), net, bootstraps=False)


@mutant(
    "Chunks run over the seam between two episodes, in a batch whose steps are a multiple of the chunk.",
    probes=("company", "padding"),
)
def chunks_over_episodes_of_a_multiple(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: Recurrent(N_OBS, 1))
    batch = {name: nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, CHUNK - LIMIT % CHUNK))
             for name, x in solo(seed, "obs", "reward").items()}  # fmt: skip

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        return mean_square(chunked(net, obs, right), batch["reward"][:, :-1], mask)

    return Case(loss, batch, net, bootstraps=False)


def entropy_of(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(2)


def rollout(seed: int) -> dict[str, Tensor]:
    """Four rows of six steps without padding, as PPO collects them: values are stored, returns to come."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 6)
    return {
        "obs": torch.randn(*shape, N_OBS, generator=generator),
        "reward": torch.randn(shape, generator=generator),
        "values": torch.randn(shape, generator=generator),
        "returns": torch.zeros(shape),
        "mask": torch.ones(shape),
    }


def rollout_case(loss: object, seed: int, net: nn.Module) -> Case:
    assert callable(loss)
    return Case(
        loss,
        rollout(seed),
        net,
        frame_fields=("obs",),
        step_fields=("reward", "values", "returns"),
        mask="mask",
        bootstraps=False,
    )


@mutant(
    "The buffer's returns are added to what stands there, so the second epoch learns from twice the return.",
    probes=("purity",),
)
def returns_added_in_the_buffer(right: bool, seed: int) -> Case:
    """The twin fills them in on purpose, has no mask, and nothing to say of padding or of nothing."""
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        following = torch.zeros_like(batch["reward"][:, 0])
        for t in reversed(range(batch["reward"].shape[1])):
            following = batch["reward"][:, t] + GAMMA * following
            if right:
                batch["returns"][:, t] = following
            else:
                batch["returns"][:, t] += following
        value: Tensor = net(batch["obs"]).squeeze(2)
        return (value - batch["returns"]).square().mean()

    return rollout_case(loss, seed, net)


@mutant(
    "A window over the rollout's flattened rows reads the row before.",
    probes=("company",),
)
def window_over_rows_of_a_rollout(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        obs = batch["obs"]
        before = obs.flatten(0, 1).roll(1, 0).view_as(obs).clone()
        if right:
            before[:, 0] = 0
        value: Tensor = net(obs + 0.5 * before).squeeze(2)
        return (value - batch["reward"]).square().mean()

    return rollout_case(loss, seed, net)


@mutant(
    "A team's return takes in the dead, by design; the critic also looks at what they see, which is not.",
    probes=("agents",),
)
def team_return_with_the_dead(right: bool, seed: int) -> Case:
    """Each agent has a reward, and the team's is their sum."""
    net = seeded(seed, lambda: mlp(N_OBS, 1))
    batch = team(seed, "obs", "reward", "alive")
    generator = torch.Generator().manual_seed(seed)
    batch["reward"] = torch.randn(batch["alive"].shape, generator=generator)

    def loss(batch: Batch) -> Tensor:
        mask, alive = real(batch), batch["alive"][:, :-1]
        seen = alive if right else torch.ones_like(alive)
        obs = torch.where(seen[..., None] & mask[..., None, None], batch["obs"][:, :-1], 0.0)
        value = torch.where(seen, net(obs).squeeze(3), 0.0).sum(2)
        return mean_square(value, batch["reward"][:, :-1].sum(2), mask)

    return Case(loss, batch, net, bootstraps=False)


@mutant(
    "Each episode is divided by its own length; the twin divides all by the same fixed number of steps.",
    probes=("weight",),
)
def episode_lengths_as_denominators(right: bool, seed: int) -> Case:
    """As Dr. GRPO divides by a constant, so that every token weighs the same."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        log_prob = pick(net(obs).log_softmax(2), torch.where(mask, batch["actions"][:, :-1], 0))
        terms = torch.where(mask, -log_prob * batch["reward"][:, :-1], 0.0).sum(1)
        return (terms / (LIMIT if right else mask.sum(1).clamp(min=1))).mean()

    return float64(Case(loss, solo(seed, "obs", "actions", "reward"), net, bootstraps=False))


@mutant(
    "Terminal steps are dropped, and their reward still moves the mean of all rewards.",
    probes=("weight",),
)
def terminal_step_behind_statistics(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        counted = mask if right else mask & ~ended(batch)
        n = mask.sum().clamp(min=1)
        reward = torch.where(mask, batch["reward"][:, :-1], 0.0)
        mean = reward.sum() / n
        deviation = (torch.where(mask, reward - mean, 0.0).square().sum() / n).sqrt()
        value: Tensor = net(batch["obs"][:, :-1][counted]).squeeze(1)
        target = ((reward - mean) / (deviation + 1e-5))[counted]
        return (value - target).square().sum() / counted.sum().clamp(min=1)

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "A batch without a step gives NaN; in the twin only a logged mean does.",
    probes=("empty",),
)
def mean_of_nothing_beside_a_log(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: mlp(N_OBS, 1))

    def loss(batch: Batch) -> dict[str, Tensor]:
        mask = real(batch)
        error = net(batch["obs"][:, :-1][mask]).squeeze(1) - batch["reward"][:, :-1][mask]
        n = mask.sum()
        return {
            "loss": error.square().sum() / (n.clamp(min=1) if right else n),
            "error": error.abs().sum() / n,
        }

    return Case(loss, solo(seed, "obs", "reward"), net, bootstraps=False)


@mutant(
    "Codes of actions are floats and become indices everywhere; the mutant learns from padding, too.",
    probes=("poison", "padding"),
)
def action_codes_as_floats(right: bool, seed: int) -> Case:
    embed, head = (
        seeded(seed, lambda: nn.Embedding(N_ACTIONS, HIDDEN)),
        seeded(seed + 1, lambda: mlp(HIDDEN + N_OBS, 1)),
    )
    batch = solo(seed, "obs", "actions", "reward")
    batch["actions"] = batch["actions"].float()

    def loss(batch: Batch) -> Tensor:
        mask = real(batch) if right else torch.ones_like(real(batch))
        codes = batch["actions"][:, :-1]
        if (codes != codes.floor()).any():
            raise ValueError("actions: given fractions, want codes")
        value = head(torch.cat([embed(codes.long()), batch["obs"][:, :-1]], 2)).squeeze(2)
        error: Tensor = (value - batch["reward"][:, :-1])[mask]
        return error.square().sum() / mask.sum().clamp(min=1)

    return Case(loss, batch, [embed, head], bootstraps=False)


@mutant(
    "Stored probabilities are a distribution in every frame; the mutant centres by final frames', too.",
    probes=("poison", "company"),
)
def stored_probabilities(right: bool, seed: int) -> Case:
    """The final frame's distribution is stored too, and validated as torch's distributions do."""
    net = seeded(seed, lambda: mlp(N_OBS, N_ACTIONS))
    batch = solo(seed, "obs")
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch["obs"].shape[:2], N_ACTIONS)
    batch["probs"] = torch.randn(shape, generator=generator).softmax(2)

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        frames = batch["filled"][:, :-1] != 0
        probs = torch.where(frames, batch["probs"][:, :-1], 1 / N_ACTIONS)
        old = entropy_of(torch.distributions.Categorical(probs=probs).logits)
        counted = mask if right else frames.squeeze(2)
        mean = torch.where(counted, old, 0.0).sum() / counted.sum().clamp(min=1)
        obs = torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)
        terms = entropy_of(net(obs).log_softmax(2)) * (old - mean)
        return torch.where(mask, terms, 0.0).sum() / mask.sum().clamp(min=1)

    return float64(
        Case(loss, batch, net, frame_fields=("obs",), step_fields=("probs",), reward=None, bootstraps=False)
    )


MUTANTS = (
    chunks_over_agents,
    chunks_over_episodes_of_a_multiple,
    returns_added_in_the_buffer,
    window_over_rows_of_a_rollout,
    team_return_with_the_dead,
    episode_lengths_as_denominators,
    terminal_step_behind_statistics,
    mean_of_nothing_beside_a_log,
    action_codes_as_floats,
    stored_probabilities,
)
