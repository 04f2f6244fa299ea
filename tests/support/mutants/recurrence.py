"""Hidden states: read at the wrong column, carried over a seam, stored at the wrong time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from endmark.audit import Case, hard_batch
from support.mutants.common import (
    GAMMA,
    HIDDEN,
    N_ACTIONS,
    N_OBS,
    SOLO,
    STORED,
    Batch,
    Recurrent,
    ended,
    mlp,
    mutant,
    pick,
    real,
    refuse_empty,
    seeded,
    solo,
)


def zeroed(batch: Batch, mask: Tensor) -> Tensor:
    """Observations of the real steps, zeros elsewhere."""
    return torch.where(mask[..., None], batch["obs"][:, :-1], 0.0)


def mean_square_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return (prediction[mask] - target[mask]).square().sum() / mask.sum().clamp(min=1)


@mutant(
    "The bootstrap value is read from the hidden state after the last column, not after the final frame.",
    probes=("poison", "padding", "bootstrap"),
)
def hidden_read_at_max_t(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: Recurrent(N_OBS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        with torch.no_grad():
            outputs, last_hidden = net.gru(batch["obs"])  # (B, T+1, H), (1, B, H)
            if right:
                rows, final_frames = torch.arange(len(mask)), mask.sum(1)
                last_hidden = outputs[rows, final_frames][None]
            ret = torch.where(ended(batch).any(1), 0.0, net.head(last_hidden[0]).squeeze(1))
            returns = torch.zeros_like(batch["reward"][:, :-1])
            for t in reversed(range(mask.shape[1])):
                ret = torch.where(mask[:, t], batch["reward"][:, t] + GAMMA * ret, ret)
                returns[:, t] = ret
        value = net(zeroed(batch, mask)).squeeze(2)
        return mean_square_error(value, returns, mask)

    return Case(loss, solo(seed, "obs", "reward"), net)


class TrajectoryEncoder(nn.Module):
    """A summary of the whole trajectory, and a policy that is given it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(N_OBS, HIDDEN, batch_first=True)
        self.decoder = mlp(N_OBS + HIDDEN, N_ACTIONS)


@mutant(
    "The trajectory's summary is the hidden state of the last column: padding has run through the encoder.",
    probes=("poison", "padding"),
)
def summary_read_at_max_t(right: bool, seed: int) -> Case:
    """Opponent modelling: encode a trajectory, decode each action. The batch has `lengths` (B,), no mask."""
    net = seeded(seed, TrajectoryEncoder)
    padded = solo(seed, "obs", "actions")
    batch = {
        "obs": padded["obs"][:, :-1],
        "actions": padded["actions"][:, :-1],
        "lengths": real(padded).sum(1),
    }

    def loss(batch: Batch) -> Tensor:
        obs, lengths = batch["obs"], batch["lengths"]
        mask = torch.arange(obs.shape[1]) < lengths[:, None]
        if right:
            obs = torch.where(mask[..., None], obs, 0.0)
        outputs, _ = net.gru(obs)
        last = (lengths - 1).clamp(min=0) if right else torch.full_like(lengths, obs.shape[1] - 1)
        summary = outputs[torch.arange(len(obs)), last][:, None].expand_as(outputs)
        logits = net.decoder(torch.cat([obs, summary], 2)[mask])
        nll = functional.cross_entropy(logits, batch["actions"][mask], reduction="sum")
        return nll / mask.sum().clamp(min=1)

    return Case(
        loss,
        batch,
        net,
        frame_fields=("obs",),
        step_fields=("actions",),
        lengths="lengths",
        reward=None,
        bootstraps=False,
    )


@mutant(
    "Episodes are laid end to end and run through the GRU in one go: the hidden state crosses the seam.",
    probes=("company",),
)
def hidden_carried_over_seam(right: bool, seed: int) -> Case:
    """A reward model."""
    cell, head = seeded(seed, lambda: nn.GRUCell(N_OBS, HIDDEN)), seeded(seed + 1, lambda: mlp(HIDDEN, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        refuse_empty(mask)
        first = torch.zeros_like(mask)
        first[:, 0] = True
        obs, reward, begins = batch["obs"][:, :-1][mask], batch["reward"][:, :-1][mask], first[mask]
        hidden = torch.zeros(1, HIDDEN)
        predictions = torch.zeros_like(reward)
        for i in range(len(obs)):
            if right and begins[i]:
                hidden = torch.zeros(1, HIDDEN)
            hidden = cell(obs[i : i + 1], hidden)
            predictions[i] = head(hidden).squeeze()
        return (predictions - reward).square().mean()

    return Case(loss, solo(seed, "obs", "reward"), [cell, head], bootstraps=False)


@mutant(
    "`init_hidden` is forgotten: an update starts from the hidden states that the last one left.",
    probes=("purity", "company"),
)
def hidden_kept_between_updates(right: bool, seed: int) -> Case:
    """Behaviour cloning with an agent that remembers its hidden states, as PyMARL's controllers do."""
    cell, head = (
        seeded(seed, lambda: nn.GRUCell(N_OBS, HIDDEN)),
        seeded(seed + 1, lambda: mlp(HIDDEN, N_ACTIONS)),
    )
    kept: dict[str, Tensor] = {}

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = zeroed(batch, mask)
        hidden = kept.get("hidden")
        if right or hidden is None or len(hidden) != len(obs):
            hidden = torch.zeros(len(obs), HIDDEN)
        hiddens = []
        for t in range(obs.shape[1]):
            hidden = cell(obs[:, t], hidden)
            hiddens.append(hidden)
        kept["hidden"] = hidden.detach()
        log_probs = head(torch.stack(hiddens, 1)[mask]).log_softmax(-1)
        log_prob = pick(log_probs, batch["actions"][:, :-1][mask])
        return -log_prob.sum() / mask.sum().clamp(min=1)

    return Case(loss, solo(seed, "obs", "actions"), [cell, head], reward=None, bootstraps=False)


@mutant(
    "The hidden state was stored after the frame and is used as the one before it: h(t+1) for h(t).",
    probes=("bootstrap", "poison", "padding"),
)
def stored_hidden_off_by_one(right: bool, seed: int) -> Case:
    """`hidden` (B, T+1, H): the actor's hidden state before it saw the frame."""
    cell, head = (
        seeded(seed, lambda: nn.GRUCell(N_OBS, HIDDEN)),
        seeded(seed + 1, lambda: mlp(HIDDEN, N_ACTIONS)),
    )

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs, hidden = batch["obs"], batch["hidden"]
        if not right:
            hidden = torch.cat([hidden[:, 1:], hidden[:, -1:]], 1)
        q = head(cell(obs[:, :-1][mask], hidden[:, :-1][mask]))
        with torch.no_grad():
            next_value = head(cell(obs[:, 1:][mask], hidden[:, 1:][mask])).amax(1)
            onwards = torch.where(ended(batch)[mask], 0.0, GAMMA * next_value)
            target = batch["reward"][:, :-1][mask] + onwards
        chosen = pick(q, batch["actions"][:, :-1][mask])
        return (chosen - target).square().sum() / mask.sum().clamp(min=1)

    batch = solo(seed, "obs", "actions", "reward", "hidden", spec=STORED)
    return Case(loss, batch, [cell, head], frame_fields=("obs", "hidden"))


@mutant(
    "The burn-in runs over the seam: it warms the hidden state up on the end of the episode before.",
    probes=("poison",),
)
def burn_in_over_seam(right: bool, seed: int) -> Case:
    """Segments cut from a stream, as in R2D2: some columns to burn in, then columns to train on.

    `mask` (B, T): this column belongs to the segment's own episode; `train`: it counts.
    """
    burn_in = 3
    net = seeded(seed, lambda: nn.GRUCell(N_OBS, HIDDEN))
    head = seeded(seed + 1, lambda: mlp(HIDDEN, 1))
    padded = hard_batch(SOLO, seed)
    generator = torch.Generator().manual_seed(seed)
    n_rows, n_columns = padded["filled"].shape[:2]
    begins = torch.randperm(n_rows, generator=generator) % (burn_in + 1)  # where the row's own episode begins
    times = torch.arange(n_columns)
    mask = times >= begins[:, None]
    batch = {
        "obs": torch.randn(n_rows, n_columns, N_OBS, generator=generator),
        "returns": torch.randn(n_rows, n_columns, generator=generator),
        "mask": mask.long(),
        "train": (mask & (times >= burn_in)).long(),
    }

    def loss(batch: Batch) -> Tensor:
        own, train = batch["mask"] != 0, batch["train"] != 0
        obs = torch.where(own[..., None], batch["obs"], 0.0) if right else batch["obs"]
        hidden = torch.zeros(len(obs), HIDDEN)
        values = []
        for t in range(obs.shape[1]):
            after = net(obs[:, t], hidden)
            hidden = torch.where(own[:, t, None], after, 0.0) if right else after
            if t < burn_in:
                hidden = hidden.detach()
            values.append(head(hidden).squeeze(1))
        return mean_square_error(torch.stack(values, 1), batch["returns"], train)

    return Case(
        loss,
        batch,
        [net, head],
        frame_fields=("obs",),
        step_fields=("returns",),
        mask="mask",
        step_mask="train",
        reward="returns",
        bootstraps=False,
    )


@mutant(
    "Rows are sorted by length to pack them, and the outputs are never sorted back.",
    probes=("company", "weight"),
)
def packed_and_not_sorted_back(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: nn.GRU(N_OBS, HIDDEN, batch_first=True))
    head = seeded(seed + 1, lambda: mlp(HIDDEN, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        lengths = mask.sum(1).clamp(min=1)
        order = lengths.argsort(descending=True, stable=True)
        packed = pack_padded_sequence(zeroed(batch, mask)[order], lengths[order], batch_first=True)
        hidden, _ = pad_packed_sequence(net(packed)[0], batch_first=True, total_length=mask.shape[1])
        if right:
            hidden = hidden[order.argsort()]
        prediction = head(hidden).squeeze(2)
        return mean_square_error(prediction, batch["reward"][:, :-1], mask)

    return Case(loss, solo(seed, "obs", "reward"), [net, head], bootstraps=False)


@mutant(
    "`view` makes time the first axis where `transpose` should: a GRU row holds pieces of several episodes.",
    probes=("company", "padding"),
)
def view_for_transpose(right: bool, seed: int) -> Case:
    net = seeded(seed, lambda: nn.GRU(N_OBS, HIDDEN))
    head = seeded(seed + 1, lambda: mlp(HIDDEN, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        obs = zeroed(batch, mask)
        n_rows, n_columns = mask.shape
        hidden, _ = net(obs.transpose(0, 1) if right else obs.view(n_columns, n_rows, N_OBS))
        hidden = hidden.transpose(0, 1) if right else hidden.view(n_rows, n_columns, HIDDEN)
        prediction = head(hidden).squeeze(2)
        return mean_square_error(prediction, batch["reward"][:, :-1], mask)

    return Case(loss, solo(seed, "obs", "reward"), [net, head], bootstraps=False)


@mutant(
    "The last action comes from `torch.roll`: the first step is shown the action of the last column.",
    probes=("poison", "padding"),
)
def last_action_by_roll(right: bool, seed: int) -> Case:
    """A recurrent reward model that sees the last action."""
    net = seeded(seed, lambda: Recurrent(N_OBS + N_ACTIONS, 1))

    def loss(batch: Batch) -> Tensor:
        mask = real(batch)
        onehot = functional.one_hot(batch["actions"].clamp(0, N_ACTIONS - 1), N_ACTIONS).float()
        last_action = torch.roll(onehot, 1, 1)
        if right:
            last_action[:, 0] = 0
        inputs = torch.cat([batch["obs"], last_action], 2)[:, :-1]
        prediction = net(torch.where(mask[..., None], inputs, 0.0)).squeeze(2)
        return mean_square_error(prediction, batch["reward"][:, :-1], mask)

    return Case(loss, solo(seed, "obs", "actions", "reward"), net, bootstraps=False)


MUTANTS = (
    hidden_read_at_max_t,
    summary_read_at_max_t,
    hidden_carried_over_seam,
    hidden_kept_between_updates,
    stored_hidden_off_by_one,
    burn_in_over_seam,
    packed_and_not_sorted_back,
    view_for_transpose,
    last_action_by_roll,
)
