"""Sequences with a mask or lengths, as language models have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import Case, audit
from support.td_losses import Batch


def tokens(seed: int = 0, *, lengths: Sequence[int] = (9, 7, 6, 5, 4)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(max(lengths))
    attention = times < torch.tensor(lengths)[:, None]
    prompt = times < 2
    return {
        "input_ids": torch.where(attention, torch.randint(1, 11, attention.shape, generator=generator), 0),
        "attention_mask": attention.long(),
        "completion_mask": (attention & ~prompt).long(),
        "lengths": torch.tensor(lengths),
        "advantages": torch.where(attention, torch.randn(attention.shape, generator=generator), 0.0),
    }


class Tiny(nn.Module):
    """A causal language model of one recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed, self.body, self.head = (
            nn.Embedding(11, 8),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 11),
        )

    def log_prob(self, batch: Batch) -> Tensor:
        """Of each token, given those before; 0 for the first."""
        ids = batch["input_ids"]
        logits = self.head(self.body(self.embed(ids[:, :-1]))[0]).log_softmax(2)
        return nn.functional.pad(logits.gather(2, ids[:, 1:, None]).squeeze(2), (1, 0))


TOKENS: dict[str, Any] = {
    "frame_fields": ("input_ids",),
    "step_fields": ("advantages",),
    "step_mask": "completion_mask",
    "reward": "advantages",
    "bootstraps": False,
}


@pytest.mark.parametrize("flags", [{"mask": "attention_mask"}, {"lengths": "lengths"}])
def test_a_token_loss_by_mask_and_by_lengths(flags: dict[str, str]) -> None:
    net = Tiny()

    def loss(batch: Batch, right: bool) -> dict[str, Tensor]:
        counts = batch["completion_mask"] != 0
        terms = -net.log_prob(batch) * torch.where(counts, batch["advantages"], 0.0)
        total = terms.sum() / (counts.sum().clamp(min=1) if right else counts.numel())
        return {"loss": total, "per_step": terms}

    options = {**TOKENS, **flags, "horizon": 0}
    report = audit(Case(lambda b: loss(b, True), tokens(), net, **options))
    assert report.findings == ()
    assert report.missing_cases == ()
    assert {*report.skipped} == {"bootstrap", "agents"}
    other = {"attention_mask", "lengths"} - {*flags.values()}
    assert {*report.left_alone} == other
    wrong = audit(Case(lambda b: loss(b, False), tokens(), net, **options))
    assert {f.probe for f in wrong.leaks} == {"padding"}


def test_advantages_of_the_prompt_are_frames_without_a_step() -> None:
    net = Tiny()

    def loss(batch: Batch) -> Tensor:
        counts = batch["attention_mask"] != 0
        terms = torch.where(counts, -net.log_prob(batch) * batch["advantages"], 0.0)
        return terms.sum() / (batch["completion_mask"] != 0).sum().clamp(min=1)

    report = audit(Case(loss, tokens(), net, mask="attention_mask", **TOKENS))
    assert [f.what for f in report.leaks] == ["'advantages' on frames without a step matters"]
    assert {t for _, t in report.leaks[0].cells} == {0, 1}
