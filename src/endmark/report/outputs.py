"""Whether a command's files can be written, asked before the work and not after it."""

from __future__ import annotations

from pathlib import Path

from endmark.report.picture import check_suffix


def writable(option: str, path: Path, *, picture: bool = False) -> None:
    """ValueError, which names the option, if the file cannot be written.

    A file that is not there is made, and removed again. picture: for one by matplotlib.
    """
    if picture:
        try:
            check_suffix(path)
        except ImportError:
            raise ValueError(
                f'{option}: no picture without matplotlib: pip install "endmark[plot]"'
            ) from None
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise ValueError(f"{option} {path}: cannot be written: {error.strerror}") from None
