"""The input of `endmark inspect`: a padded batch in a file, stored episodes, or a run directory."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import Tensor

from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.files import FORMAT, FileError, load_episodes
from endmark.episodes.masks import as_flags
from endmark.episodes.spec import FLAGS
from endmark.inspect.run_episodes import NoEpisodesError, run_episodes
from endmark.run import CONFIG

Kind = Literal["padded batch", "replay", "run"]
STEP_FIELDS = frozenset({"actions", "actions_onehot", "reward"})
"""Step fields of the padded layout, which are undefined on a final frame."""


@dataclass(frozen=True)
class Source:
    """A padded batch of at least one row and one step, with its origin.

    name: the path as given.
    tensors: fields (B, T+1, ...) on the CPU; `filled`, `terminated` and, if it is stored, `truncated`
        (B, T+1, 1) hold 0 and 1 only. Stored episodes are padded to the longest one.
    step_fields: the names of fields that are undefined on a final frame.
    """

    name: str
    kind: Kind
    tensors: Mapping[str, Tensor]
    step_fields: frozenset[str] = STEP_FIELDS


def read(path: Path) -> Source:
    """The batch at `path`: .npz, .safetensors, .pt or .pth, or a run directory that holds episodes.

    Files cannot run code: arrays of objects and pickled classes are refused. FileError, with a message of
    one line, if there is no batch at `path`, or its shapes or flags are inconsistent; NoEpisodesError for a
    run that has stored no episode yet.
    """
    try:
        return _read(path)
    except NoEpisodesError:
        raise
    except FileError as error:
        raise FileError(" ".join(str(error).split())) from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


def _read(path: Path) -> Source:
    if path.is_dir():
        return _run(path)
    if not path.exists():
        raise FileError(f"{path}: no such file or directory")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _safetensors(path, str(path))
    if suffix == ".npz":
        return Source(str(path), "padded batch", _checked(path, _npz(path)))
    if suffix in (".pt", ".pth"):
        return Source(str(path), "padded batch", _checked(path, _torch(path)))
    raise FileError(
        f"{path}: given a file '{suffix}', want .npz, .safetensors, .pt or .pth, or a run directory"
    )


def _run(directory: Path) -> Source:
    if not (directory / CONFIG).is_file():
        raise FileError(f"{directory}: no run directory, for it has no {CONFIG}")
    return _stored(str(directory), "run", run_episodes(directory))


def _safetensors(path: Path, name: str) -> Source:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored_episodes = FORMAT in (file.metadata() or {})
            raw = {} if stored_episodes else {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: damaged, or no safetensors file: {error}") from None
    if not stored_episodes:
        return Source(name, "padded batch", _checked(path, raw))
    return _stored(name, "replay", load_episodes(path))


def _stored(name: str, kind: Kind, batch: EpisodeBatch) -> Source:
    padded = batch.to_padded()
    del padded["mask"]
    return Source(name, kind, padded, frozenset(batch.spec.step_fields))


def _npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise FileError(f"{path}: one array and no .npz archive; want one array a field")
            return {name: _native(path, name, arrays[name]) for name in arrays.files}
        except FileError:
            raise
        except Exception as error:  # damaged bytes raise various errors in zipfile, zlib and numpy
            if "Object arrays" in str(error):
                raise FileError(
                    f"{path}: holds arrays of objects, which need pickle, and that could run any code; write "
                    "numbers, one array (B, T+1, ...) a field"
                ) from None
            raise FileError(f"{path}: damaged, or no .npz file") from None


def _native(path: Path, name: str, array: npt.NDArray[Any]) -> Tensor:
    """The array as a tensor in native byte order."""
    if array.dtype.kind not in "biufc":
        raise FileError(f"{path}: field '{name}': given {array.dtype}, want numbers")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _torch(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about some damaged files before it raises
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise various errors, IndexError included
            if not isinstance(error, pickle.UnpicklingError) or "GLOBAL" not in str(error):
                raise FileError(f"{path}: damaged, or no torch file") from None
            raise FileError(
                f"{path}: holds more than tensors, and loading that could run any code, so it is refused; "
                "where you trust it, load it and write the tensors anew: "
                "np.savez('batch.npz', **{k: v.numpy() for k, v in tensors.items()}), "
                "for a PyMARL batch with tensors = batch.data.transition_data"
            ) from None
    if not isinstance(content, dict):
        raise FileError(f"{path}: given {type(content).__name__}, want a dict of tensors by name")
    if "filled" not in content:  # one level down, as in {"transition_data": {...}, "episode_data": {...}}
        inner = [value for value in content.values() if isinstance(value, dict) and "filled" in value]
        content = inner[0] if len(inner) == 1 else content
    return content


def _checked(path: Path, fields: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The fields as tensors; FileError unless they form a padded batch with at least one row and one step."""
    for name in ("filled", "terminated"):
        if name not in fields:
            given = ", ".join(map(str, fields)) or "nothing"
            raise FileError(f"{path}: no padded batch: field '{name}' is missing; given {given}")
    tensors = {
        str(name): _dense(path, str(name), value)
        for name, value in fields.items()
        if name != "mask"  # derived, and one column shorter
    }
    shape = tuple(tensors["filled"].shape)
    for name in FLAGS:
        if name not in tensors:
            continue
        try:
            as_flags(name, tensors[name])
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
        if tuple(tensors[name].shape) != shape:
            raise FileError(
                f"{path}: field '{name}': given shape {tuple(tensors[name].shape)}, want {shape} like filled"
            )
    if shape[0] == 0:
        raise FileError(f"{path}: an empty batch: filled has shape {shape}, want at least one row")
    if shape[1] < 2:
        raise FileError(
            f"{path}: one frame and so no step: filled has shape {shape}, want (B, T+1, 1), T >= 1"
        )
    for name, tensor in tensors.items():
        if tuple(tensor.shape[:2]) != shape[:2]:
            raise FileError(
                f"{path}: field '{name}': given shape {tuple(tensor.shape)}, want "
                f"({shape[0]}, {shape[1]}, ...) like filled"
            )
    return tensors


def _dense(path: Path, name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise FileError(f"{path}: field '{name}': given {type(value).__name__}, want a tensor (B, T+1, ...)")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise FileError(f"{path}: field '{name}': given a tensor that is not dense, want (B, T+1, ...)")
    return value.detach()
