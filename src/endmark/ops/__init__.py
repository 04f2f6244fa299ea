"""Tensor operations. Each has a native kernel for the CPU and a fallback in plain torch."""

from endmark.ops.attention import ragged_attention, ragged_attention_naive
from endmark.ops.greedy import greedy, greedy_linear
from endmark.ops.gru import gru_advance, gru_unroll, gru_unroll_naive
from endmark.ops.linear import linear
from endmark.ops.linear_chosen import linear_chosen
from endmark.ops.mixing import monotone_mix
from endmark.ops.mlps import mlps
from endmark.ops.policy_terms import policy_terms

__all__ = [
    "greedy",
    "greedy_linear",
    "gru_advance",
    "gru_unroll",
    "gru_unroll_naive",
    "linear",
    "linear_chosen",
    "mlps",
    "monotone_mix",
    "policy_terms",
    "ragged_attention",
    "ragged_attention_naive",
]
