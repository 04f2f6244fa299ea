"""Token losses of language models: a prompt, a completion, padding behind it.

`attention_mask` (B, T) is 1 where there is a token. `completion_mask` is 1 where the model wrote the token,
so that it counts. Position t of every mask, advantage and log-probability belongs to token t.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants.common import HIDDEN, Batch, Recurrent, float64, mutant, pick, seeded

N_TOKENS = 11


class LanguageModel(nn.Module):
    """Next-token logits (B, T, V) of tokens (B, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(N_TOKENS, HIDDEN)
        self.body = Recurrent(HIDDEN, N_TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.body(self.embed(tokens))
        return logits


def language_model(seed: int) -> LanguageModel:
    return seeded(seed, LanguageModel)


def token_case(loss: object, seed: int, net: nn.Module, *step_fields: str) -> Case:
    """Five sequences of different lengths, prompts of one to three tokens."""
    assert callable(loss)
    generator = torch.Generator().manual_seed(seed)
    n_columns = 9
    lengths = torch.tensor([9, 7, 6, 5, 4])[torch.randperm(5, generator=generator)]
    prompts = torch.randint(1, 4, (5,), generator=generator)
    prompts[0], prompts[1] = 1, 3  # never all alike
    times = torch.arange(n_columns)
    attention = times < lengths[:, None]
    shape = attention.shape
    batch = {
        "tokens": torch.where(attention, torch.randint(N_TOKENS, shape, generator=generator), 0),
        "attention_mask": attention.long(),
        "completion_mask": (attention & (times >= prompts[:, None])).long(),
        "advantages": torch.where(attention, torch.randn(shape, generator=generator), 0.0),
        "old_log_prob": torch.where(attention, -1 - torch.rand(shape, generator=generator), 0.0),
    }
    return Case(
        loss,
        {name: x for name, x in batch.items() if "mask" in name or name in ("tokens", *step_fields)},
        net,
        frame_fields=("tokens",),
        step_fields=step_fields,
        mask="attention_mask",
        step_mask="completion_mask",
        reward="advantages" if "advantages" in step_fields else None,
        bootstraps=False,
    )


def token_log_prob(net: nn.Module, batch: Batch) -> Tensor:
    """log p(token t | earlier tokens), (B, T); 0 for the first token."""
    tokens = torch.where(batch["attention_mask"] != 0, batch["tokens"], 0)
    log_prob = pick(net(tokens[:, :-1]).log_softmax(2), tokens[:, 1:])
    return nn.functional.pad(log_prob, (1, 0))


@mutant(
    "The sum over completion tokens is divided by the size of the padded batch.",
    probes=("padding", "weight", "company"),
)
def token_mean_over_padded_size(right: bool, seed: int) -> Case:
    net = language_model(seed)

    def loss(batch: Batch) -> Tensor:
        mask = batch["completion_mask"]
        total = torch.where(mask != 0, -token_log_prob(net, batch), 0.0).sum()
        return total / (mask.sum().clamp(min=1) if right else mask.numel())

    return token_case(loss, seed, net)


@mutant(
    "The sum over completion tokens is divided by all tokens, the masked ones of the prompt included.",
    probes=("weight", "company"),
)
def token_mean_counts_the_prompt(right: bool, seed: int) -> Case:
    net = language_model(seed)

    def loss(batch: Batch) -> Tensor:
        mask = batch["completion_mask"]
        advantages = torch.where(mask != 0, batch["advantages"], 0.0)
        total = -(token_log_prob(net, batch) * advantages).sum()
        return total / (mask if right else batch["attention_mask"]).sum().clamp(min=1)

    return float64(token_case(loss, seed, net, "advantages"))


@mutant(
    "Labels are shifted, their mask is not: the first token of the completion is lost, padding is learnt.",
    probes=("poison", "padding", "weight", "company"),
)
def label_mask_not_shifted(right: bool, seed: int) -> Case:
    net = language_model(seed)

    def loss(batch: Batch) -> Tensor:
        mask, labels = batch["completion_mask"], batch["tokens"][:, 1:]
        tokens = torch.where(batch["attention_mask"] != 0, batch["tokens"], 0)
        counts = (mask[:, 1:] if right else mask[:, :-1]) != 0
        log_prob = pick(net(tokens[:, :-1])[counts].log_softmax(1), labels[counts])
        return -log_prob.sum() / counts.sum().clamp(min=1)

    return token_case(loss, seed, net)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / (mask.sum() + 1e-8)


def clipped_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, mask: Tensor, clip: float = 0.2
) -> Tensor:
    """PPO's clipped objective, a mean over tokens."""
    old_log_prob = torch.where(mask != 0, old_log_prob, log_prob.detach())
    advantages = torch.where(mask != 0, advantages, 0.0)
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)


@mutant(
    "The last two arguments are swapped: advantages are the mask, and the mask is the advantage.",
    probes=("poison", "weight", "company"),
)
def advantages_passed_as_mask(right: bool, seed: int) -> Case:
    net = language_model(seed)

    def loss(batch: Batch) -> Tensor:
        log_prob, mask, advantages = token_log_prob(net, batch), batch["completion_mask"], batch["advantages"]
        if right:
            return clipped_loss(log_prob, batch["old_log_prob"], advantages, mask)
        return clipped_loss(log_prob, batch["old_log_prob"], mask, advantages)

    return float64(token_case(loss, seed, net, "advantages", "old_log_prob"))


MUTANTS = (
    token_mean_over_padded_size,
    token_mean_counts_the_prompt,
    label_mask_not_shifted,
    advantages_passed_as_mask,
)
