"""A token loss of a language model: `endmark audit examples/audit_token_loss.py:case`, and `:repaired`."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from endmark.audit import Case


def case(*, right: bool = False) -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 16), nn.Linear(16, 11))
    holds_data = torch.arange(9) < torch.tensor([9, 7, 5, 8])[:, None]
    batch = {
        "tokens": torch.randint(1, 11, (4, 9)),
        "attention_mask": holds_data.long(),
        "completion_mask": (holds_data & (torch.arange(9) >= 3)).long(),  # three tokens of prompt
    }

    def loss(batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["tokens"])[:, :-1]
        nll = functional.cross_entropy(logits.transpose(1, 2), batch["tokens"][:, 1:], reduction="none")
        mask = batch["completion_mask"][:, 1:].bool()
        total = torch.where(mask, nll, 0.0).sum()
        if right:
            return total / mask.sum().clamp(min=1)
        return total / batch["attention_mask"].sum()  # counts the prompt, which adds nothing to the total

    return Case(
        loss,
        batch,
        model,
        frame_fields=["tokens"],
        step_fields=[],
        mask="attention_mask",
        step_mask="completion_mask",
        reward=None,
    )


def repaired() -> Case:
    return case(right=True)
