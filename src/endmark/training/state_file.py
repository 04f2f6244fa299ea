"""A run's state in one file: safetensors, whose metadata holds the structure around the tensors as JSON.

Nothing that is loaded can run. One complete state is there at every moment (`endmark.disk`). The structure
has a checksum of each tensor, so that a damaged number is noticed, too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from endmark.disk import replacing
from endmark.run import RunError

STATE = "state.safetensors"
FORMAT = "endmark-state-2"


def save_state(state: Mapping[str, Any], directory: Path) -> None:
    """Replace the directory's state: nested dicts and lists of tensors, arrays, numbers, texts and None.

    TypeError for anything else.
    """
    tensors: dict[str, Tensor] = {}
    structure = _pack(state, tensors)
    with replacing(directory / STATE) as unfinished:
        metadata = {FORMAT: json.dumps(structure)}
        safetensors.torch.save_file(tensors, unfinished, metadata=metadata)


def load_state(directory: Path) -> dict[str, Any]:
    """The directory's state; RunError with one line if there is none, or if it is damaged."""
    path = directory / STATE
    if not path.is_file():
        raise RunError(f"{directory} cannot be resumed: it has no {STATE}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise RunError(f"{path}: no state of the format '{FORMAT}'")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = _unpack(json.loads(metadata[FORMAT]), tensors)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(state, dict):
        raise RunError(f"{path} is damaged: given {type(state).__name__}, want a dict of parts")
    return state


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for the value; its tensors go into `tensors`, under the numbers that stand in their places."""
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        number = str(len(tensors))
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        if tensor.untyped_storage().nbytes() != tensor.nbytes or _is_there(tensor, tensors):
            tensor = tensor.clone()  # two tensors of one file must not share memory, as views of a batch do
        tensors[number] = tensor
        return {kind: [number, _checksum(tensor)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state: given a {type(value).__name__}, want tensors, numbers, texts, dicts or lists")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    if kind not in ("tensor", "array"):
        raise ValueError(f"given '{kind}', want dict, tensor or array")
    number, checksum = content
    tensor = tensors[number]
    if _checksum(tensor) != checksum:
        raise ValueError(f"tensor {number}: given other numbers than were saved")
    return tensor if kind == "tensor" else tensor.numpy()


def _is_there(tensor: Tensor, tensors: Mapping[str, Tensor]) -> bool:
    memory = tensor.untyped_storage().data_ptr()
    return any(other.untyped_storage().data_ptr() == memory for other in tensors.values())


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)
