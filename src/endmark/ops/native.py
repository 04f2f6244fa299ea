"""The native kernels, where they were built; everything has a way without them.

`endmark._native` is compiled at installation (`native/`), for several instruction sets, and picks the best
that the processor has. Without a compiler endmark installs all the same, and says once that it is slower.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

CONTIGUOUS = torch.contiguous_format  # of memory that a kernel writes to

native: ModuleType | None
try:
    from endmark import _native as native
except ImportError:
    native = None


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can work on these: all on the CPU, all float32 or all float64."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        return False
    if not all(t.dtype == dtype and t.device.type == "cpu" for t in tensors):
        return False
    if native is None:
        _say_once()
    return native is not None


def keep_memory() -> None:
    """Let this process keep the memory that it frees, rather than ask the system for it at every update.

    The C library hands large pieces back at once, and getting them again, page by page, can cost a third of
    an update of many episodes. For a process that trains until it ends.
    """
    if native is not None:
        native.keep_memory()


def backend() -> str:
    """What computes on the CPU: an instruction set of the native kernels, or "torch" without them."""
    return "torch" if native is None else str(native.isa())


def array(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor as the kernels take it: contiguous and outside autograd; a view, where it is contiguous.

    As an array, since a tensor itself costs several times as much to hand over.
    """
    return tensor.detach().contiguous().numpy()


def arrays(*tensors: Tensor | None) -> list[npt.NDArray[Any] | None]:
    """The same of each; None stays None."""
    return [None if tensor is None else array(tensor) for tensor in tensors]


@cache
def _say_once() -> None:
    message = "endmark was installed without its native kernels, for want of a C++ compiler, and is slower"
    logging.getLogger("endmark").warning(message)
