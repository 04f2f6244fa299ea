"""Files that are there whole or not at all, and directories that belong to one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import safetensors

LOCK = "lock"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write the new content to. It takes the old one's place when the block is left.

    It is flushed to the disk before, and the directory after: without that, a loss of power may leave an
    empty file. However the process ends, one of the two is there, whole. OSError, with the path, if the new
    content cannot be written, as when the disk is full.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            mode = os.fstat(file.fileno()).st_mode  # safetensors leaves files that only their owner can read
        yield unfinished
        unfinished.chmod(mode)
        _flush(unfinished)
        os.replace(unfinished, path)
        _flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if not isinstance(error, OSError | safetensors.SafetensorError):
            raise
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise OSError(f"{path}: cannot be written, and is as it was: {reason}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class InUseError(ValueError):
    """Another process owns the directory."""


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Make the directory, if it is not there, and own it until the block is left or the process dies.

    A directory that was made here is removed if the block leaves it empty. InUseError if another process owns
    it, on this machine or, where the file system's locks reach that far, on another one.
    """
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InUseError(f"{directory} belongs to another process, which trains in it") from None
    try:
        yield
    finally:
        if os.listdir(directory) == [LOCK]:  # nothing came to be in it
            (directory / LOCK).unlink()
            if is_new:
                directory.rmdir()
        lock.release()
