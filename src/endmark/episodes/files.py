"""Episodes in safetensors files, which cannot contain code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from endmark.disk import replacing
from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.spec import EpisodeSpec, Field

FORMAT = "endmark-episodes-2"
_FIELD = "field."  # before the name of each field, so that a field may have any name


class FileError(ValueError):
    """A file is missing, damaged or of another kind. The message is one line: the path and the reason."""


def save_episodes(batch: EpisodeBatch, path: Path) -> None:
    """Write the episodes and their spec. An old file at `path` stays until the new one is complete."""
    spec = batch.spec
    described = {
        "n_agents": spec.n_agents,
        "n_actions": spec.n_actions,
        "episode_limit": spec.episode_limit,
        "fields": {
            name: {"shape": field.shape, "dtype": str(field.dtype).removeprefix("torch."), "per": field.per}
            for name, field in spec.fields.items()
        },
    }
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        spec = _spec(json.loads(metadata[FORMAT]))
        lengths, terminated = tensors.pop("lengths"), tensors.pop("terminated")
        fields = {name.removeprefix(_FIELD): tensor for name, tensor in tensors.items()}
        return EpisodeBatch(spec, fields, lengths, terminated)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: damaged: {' '.join(str(error).split())}") from None


def _spec(described: dict[str, Any]) -> EpisodeSpec:
    fields = {}
    for name, field in described["fields"].items():
        dtype = getattr(torch, str(field["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"field '{name}': no dtype '{field['dtype']}'")
        fields[name] = Field(tuple(field["shape"]), dtype, field["per"])
    return EpisodeSpec(described["n_agents"], described["n_actions"], described["episode_limit"], fields)
