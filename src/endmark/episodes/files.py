"""Episodes in safetensors files, which cannot contain code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from endmark.disk import replacing
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.spec import Bounds, EpisodeSpec, Field, Per
from endmark.wording import joined, quoted, shortened, shown

FORMAT = "endmark-episodes-2"
_FIELD = "field."  # before the name of each field, so that a field may have any name


class FileError(ValueError):
    """A file is missing, damaged or of another kind. The message is one line: the path and the reason."""


def check_name(path: Path, name: str) -> None:
    """FileError for a field's name that a terminal would not print as it stands."""
    if not name.isprintable() or len(name) > 200:
        raise FileError(
            f"{path}: field {quoted(name)}: given a name with control characters or of over 200, "
            "want a printable one"
        )


def own_tensors(file: Any) -> dict[str, Tensor]:
    """Copies of all tensors of an open safetensors file.

    Those that safetensors gives are parts of the mapped file. If the file is cut short meanwhile, reading one
    kills the process (SIGBUS).
    """
    return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def save_episodes(batch: EpisodeBatch, path: Path) -> None:
    """Write the episodes and their spec. An old file at `path` stays until the new one is complete."""
    spec = batch.spec
    described: dict[str, Any] = {
        "n_agents": spec.n_agents,
        "n_actions": spec.n_actions,
        "episode_limit": spec.episode_limit,
        "fields": {
            name: {"shape": field.shape, "dtype": str(field.dtype).removeprefix("torch."), "per": field.per}
            for name, field in spec.fields.items()
        },
    }
    if spec.bounds is not None:
        described["bounds"] = vars(spec.bounds)
    if any(spec.kinds):
        described["kinds"] = spec.kinds
    tensors = {_FIELD + name: tensor for name, tensor in batch.fields.items()}
    tensors |= {"lengths": batch.lengths, "terminated": batch.terminated}
    with replacing(path) as unfinished:
        safetensors.torch.save_file(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
            unfinished,
            metadata={FORMAT: json.dumps(described)},  # one entry: several would stand in any order
        )


def load_episodes(path: Path) -> EpisodeBatch:
    """Episodes written by `save_episodes`, validated; FileError for any other or a damaged file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise FileError(f"{path}: given no format '{FORMAT}', want a file of `save_episodes`")
            tensors = own_tensors(file)
        spec = _spec(path, json.loads(metadata[FORMAT]))
        for name in ("lengths", "terminated"):
            if name not in tensors:
                raise FileError(f"{path}: damaged: no '{name}'")
        lengths, terminated = tensors.pop("lengths"), tensors.pop("terminated")
        fields = {name.removeprefix(_FIELD): tensor for name, tensor in tensors.items()}
        return EpisodeBatch(spec, fields, lengths, terminated)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except (
        *(safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError),
        *(RecursionError, OverflowError, RuntimeError),
    ) as error:
        raise FileError(f"{path}: damaged: {shortened(joined(error))}") from None


def _spec(path: Path, described: object) -> EpisodeSpec:
    if not isinstance(described, dict):
        raise FileError(
            f"{path}: damaged: given {type(described).__name__}, want an object that describes fields"
        )
    counts = {name: _entry(path, described, name, int) for name in ("n_agents", "n_actions", "episode_limit")}
    fields = {}
    for name, field in _entry(path, described, "fields", dict).items():
        check_name(path, name)
        if not isinstance(field, dict):
            raise FileError(f"{path}: damaged: field '{name}': given {type(field).__name__}, want an object")
        dtype = getattr(torch, _entry(path, field, "dtype", str), None)
        shape, per = _entry(path, field, "shape", list), _entry(path, field, "per", str)
        if not isinstance(dtype, torch.dtype):
            raise FileError(f"{path}: damaged: field '{name}': no dtype {quoted(field['dtype'])}")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise FileError(f"{path}: damaged: field '{name}': given shape {shown(shape)}, want sizes")
        if per not in get_args(Per):
            want = "'frame', 'step' or 'end'"
            raise FileError(f"{path}: damaged: field '{name}': given per {quoted(per)}, want {want}")
        fields[name] = Field(tuple(shape), dtype, cast(Per, per))
    kinds = _entry(path, described, "kinds", list) if "kinds" in described else []
    if not all(type(kind) is int for kind in kinds):
        raise FileError(f"{path}: damaged: 'kinds': given {shown(kinds)}, want integers")
    return EpisodeSpec(**counts, fields=fields, bounds=_bounds(path, described), kinds=tuple(kinds))


def _bounds(path: Path, described: dict[str, Any]) -> Bounds | None:
    if "bounds" not in described:
        return None
    given = _entry(path, described, "bounds", dict)
    rows: dict[str, tuple[tuple[float, ...], ...]] = {}
    for end in ("low", "high"):
        stored = _entry(path, given, end, list)
        for number in (number for row in stored for number in row):
            if type(number) not in (int, float):
                raise FileError(f"{path}: damaged: '{end}': given {shown(number)}, want numbers")
        rows[end] = tuple(tuple(map(float, row)) for row in stored)
    return Bounds(**rows)


def _entry(path: Path, described: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """An entry of exactly this type; True is no int."""
    if type(given := described.get(name)) is not kind:
        raise FileError(f"{path}: damaged: '{name}': given {shown(given)}, want {kind.__name__}")
    return given
