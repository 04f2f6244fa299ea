"""The native kernels; see native/kernels.h. Every array is C-contiguous.

Each function exists for float32 and for float64; all arrays of a call are of one type. Shapes are checked
(ValueError); arrays of another type or layout are refused (TypeError).
"""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def gru_forward(
    obs: Array | None,  # [F N, O], for the encoder; None: there is none, and x is read
    one_hot: Array | None,  # [F N, K] int64, as for linear_forward
    encoder_weight: Array | None,  # [I, C]
    encoder_bias: Array | None,  # [I]
    x: Array | None,  # [F, N, I]; with an encoder written, for gru_backward, or None if not wanted
    lengths: Array,  # [E] int64
    weight_ih: Array,  # [3H, I]
    weight_hh: Array,  # [3H, H]
    bias_ih: Array,  # [3H]
    bias_hh: Array,  # [3H]
    hidden: Array,  # [F, N, H], written
    saved: Array | None,  # [F, N, 4H], written for gru_backward; None if nothing needs a gradient
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
    grad_x: Array | None,  # written, if there is no encoder
    grad_encoder_weight: Array | None,  # these two are written, if there is one
    grad_encoder_bias: Array | None,
    grad_weight_ih: Array,  # these four are written
    grad_weight_hh: Array,
    grad_bias_ih: Array,
    grad_bias_hh: Array,
    n_threads: int,
) -> None: ...
def linear_forward(
    x: Array,  # [R, I]
    one_hot: Array | None,  # [R, K] int64, or None: which inputs after x are 1; less than 0 for none
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
    grad_x: Array | None,  # these three are written; None if it is not wanted
    grad_weight: Array,
    grad_bias: Array,
    n_threads: int,
) -> None: ...
def chosen_forward(
    x: Array,  # [R, I]
    weight: Array,  # [O, I]
    bias: Array,  # [O]
    choice: Array,  # [R] int64, less than O; less than 0 for none
    y: Array,  # [R], written
    n_threads: int,
) -> None: ...
def chosen_backward(
    x: Array,
    weight: Array,
    bias: Array,
    choice: Array,
    grad: Array,  # [R]
    grad_x: Array,  # these three are written
    grad_weight: Array,
    grad_bias: Array,
    n_threads: int,
) -> None: ...
def mlps_forward(
    x: Array,  # [., I]
    rows: Array | None,  # [R] int64, of x; None for all
    depths: Sequence[int],  # how many layers each network has
    weights: Sequence[Array],  # of all layers, network by network: [O, I]
    biases: Sequence[Array],  # [O]
    outputs: Sequence[Array],  # [R, O] of each network, written
    between: Sequence[Array] | None,  # [R, O] of all other layers, after ReLU, written for mlps_backward
    n_threads: int,
) -> None: ...
def mlps_backward(
    x: Array,
    rows: Array | None,
    depths: Sequence[int],
    weights: Sequence[Array],
    biases: Sequence[Array],
    between: Sequence[Array],
    grads: Sequence[Array],  # [R, O] of each network
    grad_weights: Sequence[Array],  # these two are written, of each layer
    grad_biases: Sequence[Array],
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
    grad: Array,  # [S], which is bias_2's gradient as well
    grad_values: Array,  # these four are written
    grad_weight_1: Array,
    grad_bias_1: Array,
    grad_weight_2: Array,
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
    lengths: Array,  # [E] int64
    lambda_: float,
    y: Array,  # [S, W], written
) -> None: ...
def scan_forward(
    factor: Array,  # [S, R]
    constant: Array,  # [S, R]
    lengths: Array,  # [E] int64, steps
    y: Array,  # [S, R], written
) -> None: ...
def scan_backward(
    factor: Array,
    y: Array,
    grad: Array,  # [S, R]
    lengths: Array,
    grad_factor: Array,  # these two are written
    grad_constant: Array,
) -> None: ...
def keep_memory() -> None:
    """Let the C library keep what is freed, for this process (glibc; does nothing elsewhere)."""

def isas() -> list[str]:
    """The instruction sets that this build and this processor have, the fastest first."""

def isa() -> str:
    """The one in use."""

def use_isa(name: str) -> None:
    """Use another; ValueError if it is not one of `isas()`."""
