"""The log-probability of the action taken and the policy's entropy, from the linear layer of the logits.

log π(u) = z_u - log Σ exp(z_a),   H = -Σ π(a) log π(a)      over the legal actions a
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from endmark.ops import categorical
from endmark.ops.native import CONTIGUOUS, array, arrays, native, usable

Terms = tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]


def policy_terms(
    layer: nn.Linear,
    x: Float[Tensor, "*rows I"],
    avail_actions: Bool[Tensor, "*rows A"],
    actions: Int[Tensor, "*rows"],
) -> Terms:
    """log π(u) of each row's action u, and the entropy there in nats, under logits `layer(x)`.

    avail_actions: True where the action is legal; where none is, all count as legal.
    actions: indices below A; where one is negative both results are 0, with gradients of 0. An illegal
        action has log-probability -inf.

    On a CPU the logits stay in the kernel's buffer, forward and backward: no tensor [*rows, A] is written.
    """
    weight, bias = layer.weight, layer.bias
    if not usable(x, weight, bias):
        return policy_terms_naive(layer, x, avail_actions, actions)
    rows = actions.numel()
    flat = x.reshape(rows, x.shape[-1]), avail_actions.reshape(rows, len(bias)), actions.reshape(rows)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, bias)):
        terms: tuple[Tensor, Tensor] = _NativeTerms.apply(*flat, weight, bias)  # type: ignore[no-untyped-call]
    else:
        terms = _forward(*flat, weight, bias)[:2]
    return terms[0].view(actions.shape), terms[1].view(actions.shape)


def policy_terms_naive(
    layer: nn.Linear,
    x: Float[Tensor, "*rows I"],
    avail_actions: Bool[Tensor, "*rows A"],
    actions: Int[Tensor, "*rows"],
) -> Terms:
    """`policy_terms` through torch: all log-probabilities, then a gather and a sum."""
    none = actions < 0
    x = torch.where(none[..., None], 0.0, x)  # else NaN in x reaches the weight's gradient: 0 * NaN
    log_probs = categorical.log_softmax(layer(x), avail_actions)
    log_prob, entropy = categorical.log_prob(log_probs, actions), categorical.entropy(log_probs)
    return torch.where(none, 0.0, log_prob), torch.where(none, 0.0, entropy)


class _NativeTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, legal: Tensor, taken: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        log_prob, entropy, log_sum = _forward(x, legal, taken, weight, bias)
        ctx.save_for_backward(x, weight, bias, legal, taken, entropy, log_sum)
        return log_prob, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert native is not None
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], True, True
        out = [
            torch.empty_like(t, memory_format=CONTIGUOUS) if want else None
            for t, want in zip(inputs[:3], wanted, strict=True)
        ]
        native.policy_backward(*map(array, (*inputs, *grads)), *arrays(*out), torch.get_num_threads())
        return out[0], None, None, out[1], out[2]


def _forward(
    x: Tensor, legal: Tensor, taken: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the native kernel: log-probabilities, entropies, and logs of sums for the backward pass."""
    assert native is not None
    out = x.new_empty(len(x)), x.new_empty(len(x)), x.new_empty(len(x))
    native.policy_forward(*map(array, (x, weight, bias, legal, taken, *out)), torch.get_num_threads())
    return out
