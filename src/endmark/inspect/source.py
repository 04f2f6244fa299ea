"""The input of `endmark inspect`: a padded batch in a file, stored episodes, or a run directory."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import torch
from torch import Tensor

from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.files import (
    FORMAT,
    FileError,
    check_name,
    load_episodes,
    own_tensors,
)
from endmark.episodes.masks import as_flags, as_tensor
from endmark.episodes.memory import check_unpacked
from endmark.episodes.spec import FLAGS
from endmark.inspect.run_episodes import NoEpisodesError, run_episodes
from endmark.run import CONFIG
from endmark.wording import joined, quoted, shortened

Kind = Literal["padded batch", "replay", "run"]
DTYPES = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}
STEP_FIELDS = frozenset({"actions", "actions_onehot", "reward"})
"""Step fields of the padded layout, which are undefined on a final frame."""


@dataclass(frozen=True)
class Source:
    """A padded batch of at least one row and one step, with its origin.

    name: the path as given.
    tensors: fields (B, T+1, ...) on the CPU; `filled`, `terminated` and, if it is stored, `truncated`
        (B, T+1, 1) hold 0 and 1 only. Stored episodes are padded to the longest one.
    step_fields: the names of fields that are undefined on a final frame.
    outcomes: those of them that belong to an episode's last step alone, such as `win`.
    vectors: whether actions are known to be vectors.
    """

    name: str
    kind: Kind
    tensors: Mapping[str, Tensor]
    step_fields: frozenset[str] = STEP_FIELDS
    outcomes: tuple[str, ...] = ()
    vectors: bool = False


def read(path: Path) -> Source:
    """The batch at `path`: .npz, .safetensors, .pt or .pth, or a run directory that holds episodes.

    Files cannot run code: arrays of objects and pickled classes are refused. FileError, with a message of
    one line, if there is no batch at `path`, or its shapes or flags are inconsistent; NoEpisodesError for a
    run that has stored no episode yet. Sizes are looked at first: a small file that unpacks to a huge batch
    is refused unread (`endmark.episodes.memory`).
    """
    try:
        return _read(path)
    except NoEpisodesError:
        raise
    except FileError as error:
        raise FileError(joined(error)) from None
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
    return _stored(directory, str(directory), "run", run_episodes(directory))


def _safetensors(path: Path, name: str) -> Source:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored_episodes = FORMAT in (file.metadata() or {})
            raw = {}
            if not stored_episodes:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
                _check_shapes(path, shapes)
                _check_memory(path, path.stat().st_size)
                raw = own_tensors(file)
    except (safetensors.SafetensorError, AttributeError) as error:  # AttributeError: a dtype torch lacks
        raise FileError(f"{path}: damaged, or no safetensors file: {error}") from None
    if not stored_episodes:
        return Source(name, "padded batch", _checked(path, raw))
    return _stored(path, name, "replay", load_episodes(path))


def _stored(path: Path, name: str, kind: Kind, batch: EpisodeBatch) -> Source:
    held = sum(tensor.nbytes for tensor in batch.fields.values())
    longest = int(batch.lengths.max()) + 1
    _check_memory(path, held * batch.n_episodes * longest // batch.n_frames, held)
    padded = batch.to_padded()
    del padded["mask"]
    outcomes = batch.spec.outcomes
    step_fields, vectors = frozenset({*batch.spec.step_fields, *outcomes}), batch.spec.bounds is not None
    return Source(name, kind, padded, step_fields, outcomes, vectors)


def _npz(path: Path) -> dict[str, Any]:
    """The arrays, which are read only once all their headers say what can be a batch."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about some damaged headers
        try:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise FileError(f"{path}: one array and no .npz archive; want one array a field")
            with zipfile.ZipFile(file) as archive:
                members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
                shapes = {name: _npy_shape(path, name, archive, member) for name, member in members.items()}
                _check_shapes(path, shapes)
                _check_memory(path, sum(member.file_size for member in members.values()))
                return {name: _npy(archive, member) for name, member in members.items()}
        except FileError:
            raise
        except Exception:  # damaged bytes raise various errors in zipfile, zlib and numpy
            raise FileError(f"{path}: damaged, or no .npz file") from None


def _npy_shape(path: Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """The shape that an array's header gives; FileError for objects and words."""
    with archive.open(member) as file:
        major, _ = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        header_size = file.tell()
    if dtype.hasobject:
        raise FileError(
            f"{path}: holds arrays of objects, which need pickle, and that could run any code; write "
            "numbers, one array (B, T+1, ...) a field"
        )
    if dtype.kind not in "biufc":
        raise FileError(f"{path}: field {quoted(name)}: given {dtype}, want numbers")
    if min(shape, default=0) < 0 or header_size + math.prod(shape) * dtype.itemsize != member.file_size:
        raise FileError(f"{path}: damaged: field {quoted(name)}: its size is not that of its shape {shape}")
    return tuple(shape)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _torch(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about some damaged files before it raises
        try:
            _check_stored(path)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except FileError:
            raise
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


def _check_stored(path: Path) -> None:
    """FileError for a zip file whose members are larger than the file: torch does not pack what it saves."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
        if n_bytes > (size := path.stat().st_size):
            raise FileError(
                f"{path}: damaged: given {n_bytes} bytes in a file of {size}, and torch packs none"
            )


def _check_shapes(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """FileError unless these are the shapes of a padded batch with at least one row and one step."""
    for name in ("filled", "terminated"):
        if name not in shapes:
            given = ", ".join(quoted(name).strip("'") for name in shapes) or "nothing"
            raise FileError(f"{path}: no padded batch: field '{name}' is missing; given {shortened(given)}")
    for name, given_shape in shapes.items():
        check_name(path, name)
        if name in FLAGS and (len(given_shape) != 3 or given_shape[2] != 1 or given_shape[1] < 1):
            raise FileError(f"{path}: {name}: given shape {given_shape}, want (B, T+1, 1)")
    shape = shapes["filled"]
    for name, given_shape in shapes.items():
        if name in FLAGS and given_shape != shape:
            raise FileError(f"{path}: field '{name}': given shape {given_shape}, want {shape} like filled")
    if shape[0] == 0:
        raise FileError(f"{path}: an empty batch: filled has shape {shape}, want at least one row")
    if shape[1] < 2:
        raise FileError(
            f"{path}: one frame and so no step: filled has shape {shape}, want (B, T+1, 1), T >= 1"
        )
    for name, given_shape in shapes.items():
        if given_shape[:2] != shape[:2] and name != "mask":  # derived, and one column shorter
            raise FileError(
                f"{path}: field '{name}': given shape {given_shape}, want "
                f"({shape[0]}, {shape[1]}, ...) like filled"
            )


def _check_memory(path: Path, n_bytes: int, packed: int | None = None) -> None:
    try:
        check_unpacked(n_bytes, path.stat().st_size if packed is None else packed)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _checked(path: Path, fields: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The fields as tensors; FileError unless they form a padded batch."""
    values = {str(name): value for name, value in fields.items()}
    tensors = {name: _dense(path, name, value) for name, value in values.items() if name != "mask"}
    _check_shapes(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    _check_memory(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    for name in FLAGS:
        if name in tensors:
            try:
                as_flags(name, tensors[name])
            except ValueError as error:
                raise FileError(f"{path}: {error}") from None
    return tensors


def _dense(path: Path, name: str, value: object) -> Tensor:
    check_name(path, name)
    try:
        tensor = as_tensor(f"field '{name}'", value)
    except TypeError as error:
        raise FileError(f"{path}: {error} (B, T+1, ...)") from None
    if (
        tensor.layout != torch.strided
        or tensor.is_nested
        or tensor.device.type != "cpu"
        or tensor.dtype not in DTYPES
    ):
        raise FileError(
            f"{path}: field '{name}': given a tensor that is not dense or holds no plain numbers, "
            "want (B, T+1, ...)"
        )
    return tensor.detach()
