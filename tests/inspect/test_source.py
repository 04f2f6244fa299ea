from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from endmark.episodes.files import FileError, save_episodes
from endmark.inspect.run_episodes import NoEpisodesError
from endmark.inspect.source import read
from support.helpers import bits, random_batch

Tensors = dict[str, Tensor]


def padded_batch() -> Tensors:
    return {name: tensor for name, tensor in random_batch(0).to_padded().items() if name != "mask"}


def write_npz(tensors: Tensors, path: Path) -> None:
    np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]


def write_torch(tensors: Tensors, path: Path) -> None:
    torch.save(tensors, path)


def write_safetensors(tensors: Tensors, path: Path) -> None:
    safetensors.torch.save_file(tensors, path)


WRITERS: dict[str, Callable[[Tensors, Path], None]] = {
    ".npz": write_npz,
    ".pt": write_torch,
    ".pth": write_torch,
    ".safetensors": write_safetensors,
}


def refusal(path: Path) -> str:
    """The message with which `path` is refused: one line that begins with the path."""
    with pytest.raises(FileError) as refused:
        read(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_padded_batch_comes_back_bit_for_bit(suffix: str, tmp_path: Path) -> None:
    tensors, path = padded_batch(), tmp_path / f"batch{suffix}"
    WRITERS[suffix](tensors, path)
    source = read(path)
    assert (source.name, source.kind) == (str(path), "padded batch")
    assert source.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert source.tensors[name].dtype == tensor.dtype, name
        assert torch.equal(source.tensors[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.float64])
@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_flags_of_any_dtype_are_read(suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / f"batch{suffix}"
    WRITERS[suffix]({"filled": bits("111", dtype=dtype), "terminated": bits("010", dtype=dtype)}, path)
    assert read(path).tensors["filled"].dtype == dtype


def test_arrays_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    flags = {name: bits("111").numpy() for name in ("filled", "terminated")}
    reward = np.array([[[1.5], [2.0], [0.0]]], dtype=">f4")
    np.savez(path, **flags, reward=reward)  # type: ignore[arg-type]
    assert read(path).tensors["reward"].flatten().tolist() == [1.5, 2.0, 0.0]


def test_a_batch_one_level_down_is_found(tmp_path: Path) -> None:
    path = tmp_path / "batch.pt"
    torch.save({"transition_data": padded_batch(), "episode_data": {}, "max_seq_length": 8}, path)
    assert torch.equal(read(path).tensors["filled"], padded_batch()["filled"])


def test_the_derived_mask_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    write_npz(random_batch(0).to_padded(), path)
    assert "mask" not in read(path).tensors


def test_stored_episodes_come_padded(tmp_path: Path) -> None:
    batch, path = random_batch(1, extra=True), tmp_path / "episodes.safetensors"
    save_episodes(batch, path)
    source = read(path)
    padded = batch.to_padded()
    del padded["mask"]
    assert source.kind == "replay"
    assert source.tensors.keys() == padded.keys()
    assert all(torch.equal(source.tensors[name], padded[name]) for name in padded)
    assert source.step_fields == {"actions", "reward", "log_prob", "win"}


def test_a_run_gives_its_replay(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_episodes(random_batch(1), tmp_path / "replay.safetensors")
    source = read(tmp_path)
    assert (source.name, source.kind) == (str(tmp_path), "run")
    assert source.tensors["filled"].shape[0] == random_batch(1).n_episodes


def test_a_run_without_episodes_says_when_they_are_stored(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NoEpisodesError, match="no episodes are stored yet: a run stores them in state"):
        read(tmp_path)


def test_another_directory_is_no_run(tmp_path: Path) -> None:
    assert "no run directory, for it has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_missing_file(suffix: str, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / f"nothing{suffix}")


@pytest.mark.parametrize("suffix", [".pkl", ".csv", ""])
def test_another_kind_of_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"batch{suffix}"
    path.write_text("hello")
    assert "want .npz, .safetensors, .pt or .pth" in refusal(path)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"batch{suffix}"
    WRITERS[suffix](padded_batch(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged, or no " in refusal(path)


def test_truncated_episodes(tmp_path: Path) -> None:
    path = tmp_path / "episodes.safetensors"
    save_episodes(random_batch(1), path)
    path.write_bytes(path.read_bytes()[:-10])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_is_something_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"batch{suffix}"
    path.write_text("these are words, no numbers\n" * 30)
    assert "damaged, or no " in refusal(path)


def test_an_array_under_the_name_of_an_archive(tmp_path: Path) -> None:
    with (tmp_path / "batch.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "one array and no .npz archive" in refusal(tmp_path / "batch.npz")


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], 7])
def test_a_torch_file_of_something_else(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "batch.pt")
    assert f"given {type(content).__name__}, want a dict of tensors" in refusal(tmp_path / "batch.pt")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("missing", ["filled", "terminated"])
def test_missing_flags(suffix: str, missing: str, tmp_path: Path) -> None:
    tensors, path = padded_batch(), tmp_path / f"batch{suffix}"
    del tensors[missing]
    WRITERS[suffix](tensors, path)
    assert f"field '{missing}' is missing; given " in refusal(path)


WRONG: dict[str, tuple[Tensors, str]] = {
    "two axes": (
        {"filled": torch.ones(2, 4), "terminated": torch.ones(2, 4)},
        "filled: given shape (2, 4), want (B, T+1, 1)",
    ),
    "flags that differ": (
        {"filled": bits("1111"), "terminated": bits("000")},
        "field 'terminated': given shape (1, 3, 1), want (1, 4, 1) like filled",
    ),
    "truncated differs": (
        {"filled": bits("1111"), "terminated": bits("0000"), "truncated": bits("0000", "0000")},
        "field 'truncated': given shape (2, 4, 1), want (1, 4, 1) like filled",
    ),
    "a field that differs": (
        {"filled": bits("1111"), "terminated": bits("0000"), "reward": torch.zeros(1, 3, 1)},
        "field 'reward': given shape (1, 3, 1), want (1, 4, ...) like filled",
    ),
    "a scalar": (
        {"filled": bits("1111"), "terminated": bits("0000"), "limit": torch.tensor(3)},
        "field 'limit': given shape (), want (1, 4, ...) like filled",
    ),
    "no row": (
        {"filled": torch.zeros(0, 4, 1), "terminated": torch.zeros(0, 4, 1)},
        "an empty batch: filled has shape (0, 4, 1), want at least one row",
    ),
    "one frame": (
        {"filled": bits("1"), "terminated": bits("0")},
        "one frame and so no step: filled has shape (1, 1, 1)",
    ),
    "no column": (
        {"filled": torch.zeros(2, 0, 1), "terminated": torch.zeros(2, 0, 1)},
        "filled: given shape (2, 0, 1), want (B, T+1, 1)",
    ),
    "a flag of two": (
        {"filled": bits("1121"), "terminated": bits("0000")},
        "filled: row 0, t 2: given 2, want 0 or 1",
    ),
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_shapes_and_flags(suffix: str, case: str, tmp_path: Path) -> None:
    tensors, words = WRONG[case]
    path = tmp_path / f"batch{suffix}"
    WRITERS[suffix](tensors, path)
    assert words in refusal(path)


def test_something_else_between_the_tensors(tmp_path: Path) -> None:
    torch.save({"filled": bits("11"), "terminated": bits("00"), "limit": 3}, tmp_path / "batch.pt")
    assert "field 'limit': given int, want a tensor" in refusal(tmp_path / "batch.pt")


def test_a_sparse_tensor(tmp_path: Path) -> None:
    tensors = {"filled": bits("11"), "terminated": bits("00"), "reward": torch.ones(1, 2, 1).to_sparse()}
    torch.save(tensors, tmp_path / "batch.pt")
    assert "field 'reward': given a tensor that is not dense" in refusal(tmp_path / "batch.pt")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_refused_and_not_executed(legacy: bool, tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "batch.pt"
    content = {"filled": bits("11"), "terminated": bits("00"), "trap": Trap(sprung)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    message = refusal(path)
    assert not sprung.exists()
    assert "could run any code" in message
    assert "np.savez('batch.npz', **{k: v.numpy() for k, v in tensors.items()})" in message
    torch.load(path, weights_only=False)  # the trap is a real one
    assert sprung.exists()


def test_an_object_of_a_class_is_refused(tmp_path: Path) -> None:
    torch.save(Trap(tmp_path).__dict__ | {"batch": Path("x")}, tmp_path / "batch.pt")
    assert "for a PyMARL batch with tensors = batch.data.transition_data" in refusal(tmp_path / "batch.pt")


def test_arrays_in_a_torch_file_are_refused(tmp_path: Path) -> None:
    torch.save({"filled": bits("11").numpy(), "terminated": bits("00").numpy()}, tmp_path / "batch.pt")
    assert "could run any code" in refusal(tmp_path / "batch.pt")


def test_a_bare_pickle_is_not_executed(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "batch.pt"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    refusal(path)
    assert not sprung.exists()


def test_arrays_of_objects_are_refused_and_not_executed(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "batch.npz"
    objects = np.array([[Trap(sprung), None]], dtype=object)
    np.savez(path, filled=bits("11").numpy(), terminated=bits("00").numpy(), info=objects)
    assert "arrays of objects, which need pickle" in refusal(path)
    assert not sprung.exists()


def test_arrays_of_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, filled=bits("11").numpy(), terminated=bits("00").numpy(), name=np.array(["a"]))
    assert "field 'name': given <U1, want numbers" in refusal(path)
