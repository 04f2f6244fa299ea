"""The native kernels, in native/.

Arrays are C-contiguous. Each function exists for float32 and float64, and all floating-point arrays of a call
have one type. A wrong shape is a ValueError. A wrong type or layout is a TypeError: nothing is converted.
Results are written to arrays that the caller allocates; these are marked "written".
"""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def attention_forward(
    qkv: Array,  # [F, N, 3 heads D], queries, keys and values
    lengths: Array,  # [E] int64, the steps of each episode; F = sum(lengths + 1)
    n_heads: int,
    window: int,  # frames that a frame attends to, itself among them
    cos: Array,  # [longest + 1, D / 2], of the angles by which each frame's pairs are turned
    sin: Array,
    out: Array,  # [F, N, heads D], written
    saved: Array | None,  # [F, N, heads, 2], written for attention_backward; None if no gradient is needed
    n_threads: int,
) -> None: ...
def attention_backward(
    qkv: Array,
    lengths: Array,
    n_heads: int,
    window: int,
    cos: Array,
    sin: Array,
    out: Array,
    saved: Array,
    grad: Array,  # [F, N, heads D]
    grad_qkv: Array,  # [F, N, 3 heads D], written
    n_threads: int,
) -> None: ...
def gru_forward(
    obs: Array | None,  # [F N, O], the encoder's dense inputs; None without an encoder
    one_hot: Array | None,  # [F N, K] int64, the encoder's one-hot inputs, as in linear_forward
    encoder_weight: Array | None,  # [I, C]
    encoder_bias: Array | None,  # [I]
    x: Array | None,  # [F, N, I], the input; with an encoder written for gru_backward, or None
    lengths: Array,  # [E] int64, the steps of each episode; F = sum(lengths + 1)
    weight_ih: Array,  # [3H, I]
    weight_hh: Array,  # [3H, H]
    bias_ih: Array,  # [3H]
    bias_hh: Array,  # [3H]
    hidden: Array,  # [F, N, H], written
    saved: Array | None,  # [F, N, 4H], written for gru_backward; None if no gradient is needed
    n_threads: int,
) -> None: ...
def gru_advance(
    obs: Array | None,  # [R, O], and the rest as in gru_forward
    one_hot: Array | None,
    encoder_weight: Array | None,
    encoder_bias: Array | None,
    x: Array | None,  # [R, I]
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array,
    bias_hh: Array,
    before: Array,  # [R, H], hidden states before the frame
    after: Array,  # [R, H], written
    n_threads: int,
) -> None: ...
def gru_backward(
    obs: Array | None,
    one_hot: Array | None,
    encoder_weight: Array | None,
    encoder_bias: Array | None,
    x: Array,
    lengths: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array,
    bias_hh: Array,
    hidden: Array,
    saved: Array,
    grad: Array,  # [F, N, H]
    grad_x: Array | None,  # written; None with an encoder
    grad_encoder_weight: Array | None,  # written; None without an encoder
    grad_encoder_bias: Array | None,  # written; None without an encoder
    grad_weight_ih: Array,  # written
    grad_weight_hh: Array,  # written
    grad_bias_ih: Array,  # written
    grad_bias_hh: Array,  # written
    n_threads: int,
) -> None: ...
def linear_forward(
    x: Array,  # [R, I]
    one_hot: Array | None,  # [R, K] int64, indices of the inputs after x that are 1; negative sets none
    weight: Array,  # [O, C], C >= I
    bias: Array,  # [O]
    relu: bool,
    y: Array,  # [R, O], written
    n_threads: int,
) -> None: ...
def linear_backward(
    x: Array,
    one_hot: Array | None,
    weight: Array,
    bias: Array,
    relu: bool,
    y: Array,
    grad: Array,  # [R, O]
    grad_x: Array | None,  # written; None to skip it
    grad_weight: Array,  # written
    grad_bias: Array,  # written
    n_threads: int,
) -> None: ...
def chosen_forward(
    x: Array,  # [R, I]
    weight: Array,  # [O, I]
    bias: Array,  # [O]
    choice: Array,  # [R] int64, below O; a negative one gives 0
    y: Array,  # [R], written
    n_threads: int,
) -> None: ...
def chosen_backward(
    x: Array,
    weight: Array,
    bias: Array,
    choice: Array,
    grad: Array,  # [R]
    grad_x: Array,  # written
    grad_weight: Array,  # written
    grad_bias: Array,  # written
    n_threads: int,
) -> None: ...
def policy_forward(
    x: Array,  # [R, I]
    weight: Array,  # [A, I]
    bias: Array,  # [A]
    legal: Array,  # [R, A] bool; where none is, all count as legal
    taken: Array,  # [R] int64, below A; a negative one gives 0 and 0
    log_prob: Array,  # [R], written
    entropy: Array,  # [R], written
    log_sum: Array,  # [R], written for policy_backward
    n_threads: int,
) -> None: ...
def policy_backward(
    x: Array,
    weight: Array,
    bias: Array,
    legal: Array,
    taken: Array,
    entropy: Array,
    log_sum: Array,
    grad_log_prob: Array,  # [R]
    grad_entropy: Array,  # [R]
    grad_x: Array | None,  # written; None to skip it
    grad_weight: Array,  # written
    grad_bias: Array,  # written
    n_threads: int,
) -> None: ...
def mlps_forward(
    x: Array,  # [F, I]
    rows: Array | None,  # [R] int64, indices of rows of x; None for all
    depths: Sequence[int],  # the number of layers of each network
    weights: Sequence[Array],  # [O, I] of each layer, network by network
    biases: Sequence[Array],  # [O] of each layer
    outputs: Sequence[Array],  # [R, O] of each network, written
    activations: Sequence[Array] | None,  # [R, O] of all other layers after ReLU, written for mlps_backward
    n_threads: int,
) -> None: ...
def mlps_backward(
    x: Array,
    rows: Array | None,
    depths: Sequence[int],
    weights: Sequence[Array],
    biases: Sequence[Array],
    activations: Sequence[Array],
    grads: Sequence[Array],  # [R, O] of each network
    grad_weights: Sequence[Array],  # of each layer, written
    grad_biases: Sequence[Array],  # of each layer, written
    n_threads: int,
) -> None: ...
def mix_forward(
    values: Array,  # [S, N]
    weight_1: Array,  # [S, N E]
    bias_1: Array,  # [S, E]
    weight_2: Array,  # [S, E]
    bias_2: Array,  # [S]
    y: Array,  # [S], written
    n_threads: int,
) -> None: ...
def mix_backward(
    values: Array,
    weight_1: Array,
    bias_1: Array,
    weight_2: Array,
    bias_2: Array,
    grad: Array,  # [S]; equals the gradient of bias_2
    grad_values: Array,  # written
    grad_weight_1: Array,  # written
    grad_bias_1: Array,  # written
    grad_weight_2: Array,  # written
    n_threads: int,
) -> None: ...
def greedy(
    values: Array,  # [R, A]
    legal: Array,  # [R, A] bool
    choice: Array,  # [R] int64, written
    n_threads: int,
) -> None: ...
def greedy_linear(
    x: Array,  # [R, I]
    weight: Array,  # [A, I]
    bias: Array,  # [A]
    legal: Array,  # [R, A] bool
    choice: Array,  # [R] int64, written
    n_threads: int,
) -> None: ...
def lambda_return(
    reward: Array,  # [S, W]
    discount: Array,  # [S, W]
    next_value: Array,  # [S, W]
    lengths: Array,  # [E] int64, the steps of each episode
    lambda_: float,
    y: Array,  # [S, W], written
) -> None: ...
def scan_forward(
    factor: Array,  # [S, W]
    constant: Array,  # [S, W]
    lengths: Array,  # [E] int64, the steps of each episode
    y: Array,  # [S, W], written
) -> None: ...
def scan_backward(
    factor: Array,
    y: Array,
    grad: Array,  # [S, W]
    lengths: Array,
    grad_factor: Array,  # written
    grad_constant: Array,  # written
) -> None: ...
def keep_memory() -> None:
    """Make the C library keep freed memory for the rest of this process (glibc; no effect elsewhere)."""

def isas() -> list[str]:
    """The instruction sets that both this build and this processor support, the fastest first."""

def built() -> list[str]:
    """The instruction sets in this build, the fastest first, whether this processor has them or not."""

def isa() -> str:
    """The instruction set in use."""

def use_isa(name: str) -> None:
    """Use this instruction set from now on; ValueError if it is not one of `isas()`."""
