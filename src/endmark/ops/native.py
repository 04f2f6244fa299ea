"""Access to the native kernels. Every operation has a fallback in torch for when they are missing.

`endmark._native` is compiled from `native/` at installation, for several instruction sets, and uses the
fastest one that the processor supports. Without a compiler endmark installs without it, and logs one warning
that it is slower.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

CONTIGUOUS = torch.contiguous_format  # the memory format of every tensor that a kernel writes

native: ModuleType | None
try:
    from endmark import _native as native
except ImportError:
    native = None


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels exist and accept these tensors: all on the CPU, all float32 or all float64."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        return False
    for t in tensors:  # a loop, which takes half the time of `all`: this stands before every kernel
        if t.dtype != dtype or not t.is_cpu:
            return False
    if native is None:
        _warn_once()
    return native is not None


def keep_memory() -> None:
    """Make the C library keep freed memory for the rest of this process (glibc; no effect elsewhere).

    By default it returns large blocks to the system at once. Allocating them again costs a page fault for
    each page, up to a third of an update of many episodes.
    """
    if native is not None:
        native.keep_memory()


def backend() -> str:
    """The CPU backend: the instruction set of the native kernels, or "torch" without them."""
    return "torch" if native is None else str(native.isa())


def array(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor as a contiguous NumPy array without autograd, which is what kernels take.

    It shares memory with a contiguous tensor. nanobind converts an array several times faster than a tensor.
    """
    plain = tensor.detach() if tensor.requires_grad else tensor
    return plain.contiguous().numpy()


def arrays(*tensors: Tensor | None) -> list[npt.NDArray[Any] | None]:
    """`array` of each tensor; None stays None."""
    return [None if tensor is None else array(tensor) for tensor in tensors]


@cache
def _warn_once() -> None:
    message = "the native kernels are missing (no C++ compiler at installation), so endmark is slower"
    logging.getLogger("endmark").warning(message)
