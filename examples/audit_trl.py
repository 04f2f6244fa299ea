"""TRL's GRPO loss, as it is: `endmark audit examples/audit_trl.py:grpo`, or dapo, bnpo, dr_grpo.

Install trl, which brings transformers, datasets and accelerate: `pip install trl`. The trainer is its own,
around a model of a few thousand random weights and a tokenizer of eleven words; nothing is downloaded.
"""

import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from endmark.audit import Case

PROMPT, LENGTHS = 3, [6, 4, 2, 5]  # columns of prompts, and tokens of completions


def tokens() -> dict[str, Tensor]:
    """Four prompts, padded on the left, and their completions, padded on the right; 0 is padding."""
    draw = torch.Generator().manual_seed(0)
    shape = (len(LENGTHS), PROMPT + max(LENGTHS))
    columns = torch.arange(shape[1])
    completion = (columns >= PROMPT) & (columns < PROMPT + torch.tensor(LENGTHS)[:, None])
    prompt = (columns < PROMPT) & (columns >= torch.tensor([0, 1, 0, 2])[:, None])
    advantages = torch.randn(shape[0], 1, generator=draw).expand(shape)
    return {
        "tokens": torch.where(completion | prompt, torch.randint(1, 11, shape, generator=draw), 0),
        "attention_mask": (completion | prompt).long(),
        "completion_mask": completion.long(),
        "advantages": torch.where(completion, advantages, 0.0),
        "old_log_probs": torch.where(completion, -2.4 + 0.1 * torch.randn(shape, generator=draw), 0.0),
    }


def reward(completions: list[str], **_: Any) -> list[float]:
    """The trainer wants one; the loss gets advantages instead."""
    return [0.0] * len(completions)


def trainer(folder: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=11, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    )
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(11)}, unk_token="w3"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="w0", bos_token="w1", eos_token="w2"
    )
    quiet = {
        "output_dir": folder,
        "report_to": "none",
        "use_cpu": True,
        "model_init_kwargs": {"dtype": "float32"},
        "bf16": False,
        "disable_tqdm": True,
    }
    args = GRPOConfig(
        per_device_train_batch_size=4, num_generations=4, max_completion_length=8, **quiet | settings
    )
    model.save_pretrained(folder)  # the trainer loads it twice: as the policy, and as its reference
    prompts = Dataset.from_list([{"prompt": "w4 w5"}] * 4)
    return GRPOTrainer(folder, reward, args, prompts, processing_class=tokenizer)


def case(**settings: Any) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        it = trainer(folder, **settings)
    it.current_gradient_accumulation_steps = 1

    def loss(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What TRL calls its inputs, cut at the end of the prompts; and its loss and logged numbers."""
        start = {name: x[:, :PROMPT] for name, x in batch.items()}
        rest = {name: x[:, PROMPT:] for name, x in batch.items()}
        it._metrics["train"].clear()
        inputs = {
            "prompt_ids": start["tokens"],
            "prompt_mask": start["attention_mask"],
            "completion_ids": rest["tokens"],
            "completion_mask": rest["completion_mask"],
            "advantages": rest["advantages"],
            "old_per_token_logps": rest["old_log_probs"],
            "ref_per_token_logps": rest["old_log_probs"],
            "num_items_in_batch": rest["completion_mask"].sum(),
        }
        numbers = {"loss": it.compute_loss(it.model, inputs)}
        return numbers | {n: torch.tensor(x[-1]) for n, x in it._metrics["train"].items()}

    return Case(
        loss,
        tokens(),
        it.model,
        frame_fields=["tokens"],
        step_fields=["advantages", "old_log_probs"],
        reward="advantages",
        mask="attention_mask",
        step_mask="completion_mask",
    )


def grpo() -> Case:
    return case(loss_type="grpo", beta=0.04)


def dapo() -> Case:
    return case(loss_type="dapo", beta=0.04)


def bnpo() -> Case:
    return case(loss_type="bnpo", beta=0.04)


def dr_grpo() -> Case:
    return case(loss_type="dr_grpo", beta=0.04)
