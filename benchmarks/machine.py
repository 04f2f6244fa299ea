"""The machine and the software versions of a benchmark."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

import endmark
from benchmarks import with_torchrl
from endmark.ops.native import backend


def environment() -> dict[str, str | int]:
    """Processor, threads, GPU and versions, for the tables and the JSON file."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "not measured: torch sees none"
    return {
        "cpu": _cpu(),
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


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
