"""The native kernels; see native/kernels.h. Every array is C-contiguous, on the CPU, outside autograd.

Each function exists for float32 and for float64; all arrays of a call are of one type. Shapes are checked
(ValueError); arrays of another type, device or layout are refused (TypeError).
"""

from torch import Tensor

def gru_forward(
    x: Tensor,  # [F, N, I]
    lengths: Tensor,  # [E] int64
    weight_ih: Tensor,  # [3H, I]
    weight_hh: Tensor,  # [3H, H]
    bias_ih: Tensor,  # [3H]
    bias_hh: Tensor,  # [3H]
    hidden: Tensor,  # [F, N, H], written
    saved: Tensor | None,  # [F, N, 4H], written for gru_backward; None if nothing needs a gradient
    n_threads: int,
) -> None: ...
def gru_backward(
    x: Tensor,
    lengths: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    hidden: Tensor,
    saved: Tensor,
    grad: Tensor,  # [F, N, H]
    grad_x: Tensor,  # these five are written
    grad_weight_ih: Tensor,
    grad_weight_hh: Tensor,
    grad_bias_ih: Tensor,
    grad_bias_hh: Tensor,
    n_threads: int,
) -> None: ...
def linear_forward(
    x: Tensor,  # [R, I]
    ones: Tensor | None,  # [R, K] int64, or None: the weight's columns whose input is 1
    weight: Tensor,  # [O, C], C >= I
    bias: Tensor,  # [O]
    relu: bool,
    y: Tensor,  # [R, O], written
    n_threads: int,
) -> None: ...
def linear_backward(
    x: Tensor,
    ones: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    relu: bool,
    y: Tensor,
    grad: Tensor,  # [R, O]
    grad_x: Tensor | None,  # these three are written; None if it is not wanted
    grad_weight: Tensor,
    grad_bias: Tensor,
    n_threads: int,
) -> None: ...
def mix_forward(
    values: Tensor,  # [S, N]
    weight_1: Tensor,  # [S, N E]
    bias_1: Tensor,  # [S, E]
    weight_2: Tensor,  # [S, E]
    bias_2: Tensor,  # [S]
    y: Tensor,  # [S], written
    n_threads: int,
) -> None: ...
def mix_backward(
    values: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    grad: Tensor,  # [S], which is bias_2's gradient as well
    grad_values: Tensor,  # these four are written
    grad_weight_1: Tensor,
    grad_bias_1: Tensor,
    grad_weight_2: Tensor,
    n_threads: int,
) -> None: ...
def greedy(
    values: Tensor,  # [R, A]
    legal: Tensor,  # [R, A] bool
    choice: Tensor,  # [R] int64, written
    n_threads: int,
) -> None: ...
def scan_forward(
    factor: Tensor,  # [S, R]
    constant: Tensor,  # [S, R]
    lengths: Tensor,  # [E] int64, steps
    y: Tensor,  # [S, R], written
) -> None: ...
def scan_backward(
    factor: Tensor,
    y: Tensor,
    grad: Tensor,  # [S, R]
    lengths: Tensor,
    grad_factor: Tensor,  # these two are written
    grad_constant: Tensor,
) -> None: ...
def keep_memory() -> None:
    """Let the C library keep what is freed, for this process (glibc; does nothing elsewhere)."""

def isas() -> list[str]:
    """The instruction sets that this build and this processor have, the fastest first."""

def isa() -> str:
    """The one in use."""

def use_isa(name: str) -> None:
    """Use another; ValueError if it is not one of `isas()`."""
