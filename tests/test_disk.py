"""Files that are there whole or not at all, and directories that belong to one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from endmark.disk import LOCK, InUseError, owned, replacing
from support.helpers import files_limited_to

OLD, NEW = b"old", b"new" * 100_000


def test_the_new_content_takes_the_old_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with replacing(path) as unfinished:
        unfinished.write_bytes(NEW)
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def write(text: bytes) -> None:
        with replacing(path) as unfinished:
            unfinished.write_bytes(text)
            raise KeyError("text")

    with pytest.raises(KeyError, match="text"):
        write(NEW)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", ["bytes", "safetensors"])
def test_a_full_disk_leaves_the_old_content(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def write() -> None:
        with replacing(path) as unfinished:
            if writer == "bytes":
                unfinished.write_bytes(NEW)
            else:
                safetensors.torch.save_file({"a": torch.zeros(100_000)}, unfinished)

    with (
        files_limited_to(50_000),
        pytest.raises(OSError, match=r"cannot be written, and is as it was: .*too large"),
    ):
        write()
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_files_can_be_read_by_whom_other_files_can(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(OLD)
    with replacing(tmp_path / "file") as unfinished:
        safetensors.torch.save_file({"a": torch.zeros(3)}, unfinished)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


OWN = """
import sys, time
from pathlib import Path
from endmark.disk import InUseError, owned
directories = [Path(path) for path in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.readline()
held = []
for directory in directories:
    try:
        with owned(directory):
            (directory / "content").open("x").close()  # FileExistsError if another one was here before
            held.append(directory.name)
            time.sleep(0.02)
    except (InUseError, FileExistsError):
        pass
print(*held)
"""


def test_of_several_processes_one_owns_a_directory(tmp_path: Path) -> None:
    directories = [tmp_path / str(n) for n in range(30)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OWN, *map(str, directories)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    held = [process.communicate()[0].split() for process in processes]
    assert sorted(name for names in held for name in names) == sorted(
        directory.name for directory in directories
    )


def test_a_directory_is_owned_until_its_process_dies(tmp_path: Path) -> None:
    with (
        owned(tmp_path / "run"),
        pytest.raises(InUseError, match="run belongs to another process"),
        owned(tmp_path / "run"),
    ):
        pass
    process = subprocess.Popen(
        [sys.executable, "-c", OWN.replace("0.02", "600"), str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while not (tmp_path / "run" / "content").exists():
        assert process.poll() is None
    with pytest.raises(InUseError), owned(tmp_path / "run"):
        pass
    process.kill()
    process.communicate()
    with owned(tmp_path / "run"):
        pass


def test_a_directory_that_stays_empty_is_removed_where_it_was_made(tmp_path: Path) -> None:
    with owned(tmp_path / "new"):
        assert os.listdir(tmp_path / "new") == [LOCK]
    (tmp_path / "empty").mkdir()
    with owned(tmp_path / "empty"):
        pass
    with owned(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "used"]
