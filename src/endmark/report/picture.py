"""What all pictures by matplotlib need. It is the extra `plot`: ImportError without."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def check_suffix(path: Path) -> None:
    """ValueError for a picture's suffix that matplotlib does not know."""
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        wanted = ", ".join(f".{suffix}" for suffix in sorted(known))
        raise ValueError(f"{path}: given a picture '{path.suffix}', want one of {wanted}")


def save(figure: Any, path: Path) -> None:
    """Write the figure; the suffix says how."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a box stands for a letter that no font has
        figure.savefig(path, dpi=160)


def plain(text: str) -> str:
    """Without formulas: matplotlib takes what stands between two dollars for one."""
    return text.replace("$", r"\$")
