"""What fits into memory: sizes are looked at before anything is allocated or unpacked."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 1024**3
UNPACKED_UP_TO = 1 * GIB, 100
"""Refused: a file that unpacks to more bytes than the first, and to more than the second times its size."""


def installed() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available() -> int:
    """Bytes of memory that are free, or could be at once; all there are where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return installed()


def check_unpacked(n_bytes: int, file_size: int) -> None:
    """ValueError if a file of this size may not unpack to so many bytes.

    At most half of the memory that is free, for what is read is also copied; and above 1 GiB at most a
    hundred times the file, for no real batch packs so well.
    """
    size = f"it unpacks to {n_bytes / GIB:.1f} GiB"
    least, ratio = UNPACKED_UP_TO
    if n_bytes > least and n_bytes > ratio * file_size:
        raise ValueError(
            f"{size}, over {ratio} times the file's size, want less; write it unpacked, as np.savez does"
        )
    if n_bytes > (limit := available() // 2):
        raise ValueError(f"{size}, want at most {limit / GIB:.1f} GiB, half of the memory that is free")
