"""The machine and the software versions of a benchmark."""

from __future__ import annotations

import os
import platform

import torch

import endmark
from benchmarks import with_torchrl
from endmark.doctor import processor_name
from endmark.ops.native import backend


def environment() -> dict[str, str | int]:
    """Processor, threads, GPU and versions, for the tables and the JSON file."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "not measured: torch sees none"
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": backend(),
        "torchrl": with_torchrl.version() or "not installed",
        "endmark": endmark.__version__,
    }
