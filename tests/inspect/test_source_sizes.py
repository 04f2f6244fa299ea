"""Files that lie about their sizes, unpack to too much, or have names that a terminal would obey."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from endmark.episodes import memory
from endmark.episodes.files import FORMAT, FileError, load_episodes, save_episodes
from endmark.inspect.source import read
from support.helpers import bits, make_batch, make_spec, random_batch

FLAGS = {"filled": bits("11"), "terminated": bits("10")}


def refusal(path: Path) -> str:
    """The line with which `path` is refused, after its name."""
    with pytest.raises(FileError) as refused:
        read(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def npy(shape: tuple[int, ...], dtype: str = "<f4", content: bytes = b"") -> bytes:
    """An array's file whose header says what it likes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue() + content


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {"filled": flag(1), "terminated": flag(0), **members}.items():
            file.writestr(f"{name}.npy", content)
    return path


def flag(value: int) -> bytes:
    return npy((1, 2, 1), "|u1", bytes([value, 0]))


def test_a_small_archive_that_unpacks_to_gibibytes_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros pack a thousandfold. Written in pieces, as this test has no such memory either."""
    path, size = tmp_path / "bomb.npz", 5 * 2**28
    archive(path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("obs.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy((1, 2, size // 8)))
        for _ in range(size // 2**26):
            member.write(bytes(2**26))
    assert path.stat().st_size < 2**24
    tracemalloc.start()
    message = refusal(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "it unpacks to 1.3 GiB, over 100 times the file's size" in message
    assert most < 2**24


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((1, 2, 2**40)), "field 'obs': its size is not that of its shape"),
        (npy((1, 2, -1)), "damaged"),
        (
            npy((7, 2, 1), content=bytes(56)),
            "field 'obs': given shape (7, 2, 1), want (1, 2, ...) like filled",
        ),
        (npy((1, 2), "<U3", bytes(24)), "field 'obs': given <U3, want numbers"),
        (npy((1, 2), "|O"), "arrays of objects, which need pickle"),
        (b"\x93NUMPY\x09\x09", "damaged"),
        (b"words", "damaged"),
    ],
)
def test_headers_are_looked_at_before_anything_is_read(content: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(archive(tmp_path / "batch.npz", obs=content))


def test_more_than_half_of_the_free_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, **{name: flags.numpy() for name, flags in FLAGS.items()}, obs=np.zeros((1, 2, 1000)))  # type: ignore[arg-type]
    read(path)
    monkeypatch.setattr(memory, "available", lambda: 20_000)
    assert refusal(path).startswith(
        "it unpacks to 0.0 GiB, want at most 0.0 GiB, half of the memory that is free"
    )


def test_a_torch_file_that_was_packed_is_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save(FLAGS | {"obs": torch.zeros(1, 2, 2**20)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    read(plain)
    assert "and torch packs none" in refusal(packed)


def test_a_tensor_that_repeats_one_number_is_as_large_as_it_says(tmp_path: Path) -> None:
    torch.save(FLAGS | {"obs": torch.zeros(1).expand(1, 2, 2**30)}, tmp_path / "batch.pt")
    assert "it unpacks to 8.0 GiB, over 100 times" in refusal(tmp_path / "batch.pt")
    torch.save(FLAGS | {"obs": torch.zeros(1).expand(1, 2, 50)}, tmp_path / "small.pt")
    assert read(tmp_path / "small.pt").tensors["obs"].shape == (1, 2, 50)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_a_nested_tensor_is_refused(tmp_path: Path) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 1), torch.ones(3, 1)])
    torch.save(FLAGS | {"obs": nested}, tmp_path / "batch.pt")
    assert "field 'obs': given a tensor that is not dense" in refusal(tmp_path / "batch.pt")
    torch.save({"filled": nested, "terminated": nested}, tmp_path / "batch.pt")
    assert "field 'filled': given a tensor that is not dense" in refusal(tmp_path / "batch.pt")


def test_episodes_of_very_different_lengths_are_not_padded_beyond_memory(tmp_path: Path) -> None:
    """20,000 short ones and a long one: 400 kB each as they are, gigabytes padded."""
    spec = make_spec(n_agents=1, n_actions=1, limit=20_000, state=False)
    save_episodes(make_batch(spec, [20_000] + [1] * 20_000, [True] * 20_001), tmp_path / "e.safetensors")
    assert "over 100 times the file's size" in refusal(tmp_path / "e.safetensors")


NAMES = ["\x1b[31mred", "a\nb", "x\x00", "‮flipped", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_a_name_that_a_terminal_would_obey_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"batch{suffix}"
    tensors = FLAGS | {name: torch.zeros(1, 2, 1)}
    if suffix == ".npz":
        if "\x00" in name:  # which zip cuts off there
            return
        np.savez(path, **{key: tensor.numpy() for key, tensor in tensors.items()})  # type: ignore[arg-type]
    elif suffix == ".pt":
        torch.save(tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)
    assert "given a name with control characters or of over 200" in refusal(path)


@pytest.mark.parametrize("name", NAMES)
def test_such_a_name_among_others_when_one_is_missing(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(1, 2, 1)}, tmp_path / "batch.pt")
    assert refusal(tmp_path / "batch.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_agents": 3.0}, "'n_agents': given 3.0, want int"),
        ({"n_actions": True}, "'n_actions': given True, want int"),
        ({"episode_limit": None}, "'episode_limit': given None, want int"),
        ({"fields": []}, "'fields': given [], want dict"),
        ({"fields": {"\x1b[2J": {}}}, "given a name with control characters"),
        ({"fields": {"obs": 3}}, "field 'obs': given int, want an object"),
        (
            {"fields": {"obs": {"dtype": "Tensor", "shape": [], "per": "step"}}},
            "field 'obs': no dtype 'Tensor'",
        ),
        (
            {"fields": {"obs": {"dtype": "int8", "shape": [-1], "per": "step"}}},
            "given shape [-1], want sizes",
        ),
        ({"fields": {"obs": {"dtype": "int8", "shape": [1], "per": "day"}}}, "given per 'day', want 'frame'"),
    ],
)
def test_a_description_of_episodes_that_is_none(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "episodes.safetensors"
    save_episodes(random_batch(0), path)
    with safetensors.safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()[FORMAT])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(tensors, path, metadata={FORMAT: json.dumps(described | change)})
    assert words in refusal(path)
    safetensors.torch.save_file(tensors, path, metadata={FORMAT: "[" * 100_000})
    assert "damaged" in refusal(path)


def test_lengths_whose_sum_overflows(tmp_path: Path) -> None:
    batch = make_batch(make_spec(limit=2**62 + 1), [1, 1], [True, True])
    path = tmp_path / "episodes.safetensors"
    save_episodes(batch, path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    tensors["lengths"] = torch.tensor([2**62] * 3 + [2**62 + 1] + [1] * 0)
    tensors["terminated"] = torch.tensor([True] * 4)
    frames = 5  # what the sum overflows to
    tensors = {
        n: t[:1].repeat(frames, *[1] * (t.ndim - 1)) if n.startswith("field.") else t
        for n, t in tensors.items()
    }
    safetensors.torch.save_file(tensors, path, metadata=metadata)
    assert "frames of" in refusal(path)


def test_tensors_do_not_lie_in_the_file(tmp_path: Path) -> None:
    """Else a file that is cut while they are used kills the process."""
    path = tmp_path / "episodes.safetensors"
    batch = random_batch(0)
    save_episodes(batch, path)
    loaded = load_episodes(path)
    path.write_bytes(b"")
    assert torch.equal(loaded.obs, batch.obs)
