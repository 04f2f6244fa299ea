"""λ-returns and GAE of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks import with_torchrl
from benchmarks.agree import same
from benchmarks.baseline import padded_gae, padded_lambda_return
from benchmarks.border import padded_batch
from benchmarks.measure import Work, measure
from benchmarks.results import Row
from benchmarks.setting import Setting, draw
from benchmarks.shapes import uniform
from endmark.targets import gae, lambda_return

GAMMA, LAMBDA = 0.99, 0.6


def targets(setting: Setting) -> Iterator[Row]:
    """λ-return and GAE with one value a step, as after a mixer, on a batch of uniform lengths."""
    batch = draw(setting.shape, uniform, setting.shape.batch_size)
    padded = padded_batch(batch)
    mask, terminated = padded.mask.t()[:-1].contiguous(), padded.terminated.t()[:-1].contiguous()
    generator = torch.Generator().manual_seed(0)
    reward = batch.steps("reward")
    value, next_value = (torch.randn(batch.n_steps, generator=generator) for _ in range(2))

    def pad(steps: Tensor) -> Tensor:
        out = torch.zeros(padded.mask.shape[0], mask.shape[0])
        out[padded.mask[:, :-1]] = steps
        return out.t().contiguous()

    rewards, values, next_values = pad(reward), pad(value), pad(next_value)
    flags = mask, terminated, GAMMA, LAMBDA
    discount = batch.discount(GAMMA)
    lengths = batch.lengths
    works: dict[str, dict[str, Work]] = {
        "λ-return": {
            "endmark": lambda: lambda_return(reward, batch.discount(GAMMA), next_value, lengths, LAMBDA),
            "baseline": lambda: padded_lambda_return(rewards, next_values, *flags),
        },
        "GAE": {
            "endmark": lambda: gae(reward, batch.discount(GAMMA), value, next_value, lengths, LAMBDA),
            "baseline": lambda: padded_gae(rewards, values, next_values, *flags),
        },
    }
    wanted = {
        "λ-return": lambda_return(reward, discount, next_value, lengths, LAMBDA),
        "GAE": gae(reward, discount, value, next_value, lengths, LAMBDA),
    }
    if with_torchrl.version() is not None:
        steps = with_torchrl.Steps(batch, reward, value, next_value, GAMMA, LAMBDA)
        works["λ-return"]["torchrl"], works["GAE"]["torchrl"] = steps.lambda_return, steps.gae
        same("TorchRL's λ-return", steps.lambda_return()[:, 0], wanted["λ-return"])
        same("TorchRL's GAE", steps.gae()[:, 0], wanted["GAE"])
    loops = {
        "λ-return": padded_lambda_return(rewards, next_values, *flags),
        "GAE": padded_gae(rewards, values, next_values, *flags),
    }
    for name, work in works.items():
        same(f"the {name}", loops[name].t()[padded.mask[:, :-1]], wanted[name])
        times = measure(work, setting.share(0.25))
        torchrl = times["torchrl"] if "torchrl" in work else None
        both = times["endmark"], times["baseline"]
        ratio = times.ratio("baseline", "endmark")
        what = f"{name}, {batch.n_steps} steps"
        yield Row("targets", what, "s", *both, ratio, torchrl=torchrl, details={"n_steps": batch.n_steps})
