"""Episodes written to a file come back as they were; whatever else is in the file is refused on one line."""

import json
from pathlib import Path
from typing import Literal

import pytest
import safetensors.torch
import torch

from endmark.episodes import Field
from endmark.episodes.files import FORMAT, FileError, load_episodes, save_episodes
from support.helpers import assert_same_episodes, make_spec, random_batch


@pytest.mark.parametrize("seed", range(4))
def test_round_trip(tmp_path: Path, seed: int) -> None:
    batch = random_batch(seed)
    save_episodes(batch, tmp_path / "episodes.safetensors")
    loaded = load_episodes(tmp_path / "episodes.safetensors")
    assert loaded.spec == batch.spec
    assert torch.equal(loaded.lengths, batch.lengths)
    assert torch.equal(loaded.terminated, batch.terminated)
    for name, tensor in batch.fields.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].nan_to_num(-7), tensor.nan_to_num(-7)), name
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.safetensors"]


@pytest.mark.parametrize("kinds", [(), (0, 0, 0), (0, 1, 0)])
def test_kinds_are_kept_and_older_files_have_one(tmp_path: Path, kinds: tuple[int, ...]) -> None:
    path, batch = tmp_path / "episodes.safetensors", random_batch(0, kinds=kinds)
    save_episodes(batch, path)
    assert load_episodes(path).spec == batch.spec
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    described = json.loads(metadata[FORMAT])
    assert ("kinds" in described) == (kinds == (0, 1, 0)), "one kind is written as it always was"
    for wrong, said in [
        (["a"], "'kinds': given"),
        ([0, 1], "given 2 agents, want 3"),
        (3, "'kinds': given 3"),
    ]:
        changed = {FORMAT: json.dumps(described | {"kinds": wrong})}
        safetensors.torch.save_file(tensors, path, metadata=changed)
        _refused(path, said)


@pytest.mark.parametrize("cut", [0, 4, 100, -50])
def test_a_damaged_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "episodes.safetensors"
    save_episodes(random_batch(0), path)
    path.write_bytes(path.read_bytes()[:cut])
    _refused(path, "damaged")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path)
    _refused(path, "want a file of `save_episodes`")
    _refused(tmp_path / "missing.safetensors", "No such file")


def test_a_file_that_does_not_fit_its_own_spec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.safetensors"
    batch = random_batch(0)
    save_episodes(batch, path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file({**tensors, "lengths": tensors["lengths"] + 1}, path, metadata=metadata)
    _refused(path, "damaged")
    spec = json.loads(metadata[FORMAT])
    spec["fields"]["obs"]["dtype"] = "load"
    safetensors.torch.save_file(tensors, path, metadata={FORMAT: json.dumps(spec)})
    _refused(path, "no dtype 'load'")


@pytest.mark.parametrize("name", ["lengths", "terminated_by", "field.lengths", "metadata"])
@pytest.mark.parametrize("per", ["frame", "step"])
def test_a_field_may_have_any_name(tmp_path: Path, name: str, per: Literal["frame", "step"]) -> None:
    """`lengths` used to overwrite the episodes' own, and the file read back as damaged."""
    field = Field((2,), torch.float32, per=per)
    batch = random_batch(0, spec=make_spec().extend(**{name: field}))
    save_episodes(batch, tmp_path / "episodes.safetensors")
    assert_same_episodes(load_episodes(tmp_path / "episodes.safetensors"), batch)


def _refused(path: Path, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        load_episodes(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
