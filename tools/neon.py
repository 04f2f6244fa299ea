"""`make neon`: every kernel on ARM, emulated, beside this processor's results of the same source.

Compiles `native/check.cpp` and the kernels twice, by `c++` and by a cross compiler, runs the second by qemu,
and compares all printed numbers: float64 to 1e-12, float32 to 1e-5, of the largest of their tensor. Wants
Debian's `g++-aarch64-linux-gnu` and `qemu-user`, or programs of the same names.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

NATIVE = Path(__file__).resolve().parent.parent / "native"
# As in CMakeLists.txt.
FLAGS = """
    -std=c++17 -O3 -fno-math-errno -ffp-contract=fast -Wall -Wextra -Wno-psabi -static -pthread
    -DENDMARK_ISA=plain -DENDMARK_ISA_NAME="plain" -DENDMARK_ISA_TABLE=plain_isa -DENDMARK_VECTOR_BYTES=16
"""
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

Results = list[tuple[str, str, npt.NDArray[np.float64]]]
"""Name, type and values of each printed tensor."""


def results(compiler: str, run: list[str], directory: Path) -> Results:
    """Compile with this compiler, run the program after the words of `run`, and read what it prints."""
    program = directory / compiler
    sources = [str(NATIVE / name) for name in ("check.cpp", "isa.cpp", "parallel.cpp")]
    subprocess.run([compiler, *FLAGS.split(), *sources, "-o", str(program)], check=True)
    printed = subprocess.run([*run, str(program)], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    return [(name, kind, np.array(values, dtype=np.float64)) for name, kind, *values in lines]


def distance(given: npt.NDArray[np.float64], want: npt.NDArray[np.float64]) -> float:
    """The largest difference, as a share of the largest wanted; infinite for other shapes and for NaN."""
    if given.shape != want.shape or not np.isfinite(given).all():
        return float("inf")
    return float(np.abs(given - want).max() / np.abs(want).max())


def main() -> int:
    """Exit status: 0 if all agree, 1 if not, 2 if a program is missing."""
    missing = [program for program in ("c++", CROSS, EMULATOR) if shutil.which(program) is None]
    if missing:
        print(f"neon: not found: {', '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        here = results("c++", [], Path(directory))
        arm = results(CROSS, [EMULATOR], Path(directory))
    failed = False
    for kind, limit in TOLERANCES.items():
        far = {
            f"{name} ({i})": distance(given, want)
            for i, ((name, of, want), (_, _, given)) in enumerate(zip(here, arm, strict=True))
            if of == kind
        }
        worst = max(far, key=lambda name: far[name])
        print(f"{kind}: {len(far)} tensors; farthest, {worst}: {far[worst]:.1e}, want <= {limit:.0e}")
        failed |= far[worst] > limit
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
