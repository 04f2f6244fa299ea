"""Batches of other code bases: `get` and `set` for `audit_learner`, and a batch in PyMARL's form.

A buffer is an object whose attributes are arrays or tensors, as on-policy, HARL and Stable-Baselines3 have,
or a list of such objects. Nested tensors are TorchRL's TensorDict, or dictionaries in dictionaries.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from endmark.audit.hard import hard_batch
from endmark.episodes import EpisodeSpec

N_ROWS = ("n_rollout_threads", "n_envs", "num_envs", "batch_size")
"""Attributes of a buffer that are its number of rows."""


def buffer_fields(buffer: Any) -> dict[str, Any]:
    """The arrays and tensors of a buffer, by attribute; of a list of buffers, `0.obs`, `1.obs` and so on."""
    if isinstance(buffer, (list, tuple)):
        return {f"{i}.{name}": x for i, part in enumerate(buffer) for name, x in buffer_fields(part).items()}
    held = buffer if isinstance(buffer, Mapping) else vars(buffer)
    return {name: value for name, value in held.items() if isinstance(value, (np.ndarray, Tensor))}


def with_buffer_fields(buffer: Any, fields: Mapping[str, Any]) -> Any:
    """A copy of a buffer with other arrays; its number of rows follows the arrays (T, rows, ...)."""
    if isinstance(buffer, (list, tuple)):
        parts: list[dict[str, Any]] = [{} for _ in buffer]
        for name, value in fields.items():
            i, _, own = name.partition(".")
            parts[int(i)][own] = value
        return type(buffer)(with_buffer_fields(b, own) for b, own in zip(buffer, parts, strict=True))
    if isinstance(buffer, Mapping):
        return {**buffer, **fields}
    other = copy.copy(buffer)
    before = buffer_fields(buffer)
    for name, value in fields.items():
        setattr(other, name, value)
        for size in N_ROWS if value.ndim > 1 else ():
            if getattr(buffer, size, None) == before[name].shape[1]:
                setattr(other, size, value.shape[1])
    return other


def nested_fields(batch: Any) -> dict[str, Any]:
    """The tensors of a TensorDict or of nested dictionaries: `next.reward` is `batch["next"]["reward"]`."""
    found: dict[str, Any] = {}
    for name, value in batch.items():
        if hasattr(value, "items"):
            found |= {f"{name}.{inner}": x for inner, x in nested_fields(value).items()}
        else:
            found[name] = value
    return found


def with_nested_fields(batch: Any, fields: Mapping[str, Any]) -> Any:
    """A batch of the same class with other tensors; a TensorDict's batch size follows them."""
    parts: dict[str, Any] = {}
    for name, value in batch.items():
        own = {n.removeprefix(f"{name}."): x for n, x in fields.items() if n.startswith(f"{name}.")}
        parts[name] = with_nested_fields(value, own) if hasattr(value, "items") else fields.get(name, value)
    if isinstance(batch, dict):
        return parts
    n_axes = len(batch.batch_size)
    return type(batch)(parts, batch_size=next(iter(fields.values())).shape[:n_axes])


class PyMARLBatch:
    """What PyMARL's learners use of its `EpisodeBatch`: fields by name, slices, sizes, the device."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.data = SimpleNamespace(transition_data=dict(tensors), episode_data={})
        self.scheme = {name: {"vshape": tuple(x.shape[2:]), "dtype": x.dtype} for name, x in tensors.items()}
        self.batch_size, self.max_seq_length = tensors["filled"].shape[:2]
        self.device = tensors["filled"].device

    def __getitem__(self, item: Any) -> Any:
        """A field by its name; names, or rows and columns, give a batch. An integer is a slice of one."""
        tensors = self.data.transition_data
        if isinstance(item, str):
            return tensors[item]
        if isinstance(item, tuple) and all(isinstance(name, str) for name in item):
            return PyMARLBatch({"filled": tensors["filled"], **{name: tensors[name] for name in item}})
        items = item if isinstance(item, tuple) else (item, slice(None))
        rows, columns = (slice(i, i + 1) if isinstance(i, int) else i for i in items)
        return PyMARLBatch({name: x[rows][:, columns] for name, x in tensors.items()})

    def max_t_filled(self) -> Tensor:
        """The most frames that are filled in a row."""
        most: Tensor = self.data.transition_data["filled"].sum(1).max(0).values[0]
        return most

    def to(self, device: Any) -> None:
        """Move the tensors, in place."""
        moved = {name: x.to(device) for name, x in self.data.transition_data.items()}
        self.data.transition_data, self.device = moved, moved["filled"].device


def pymarl_batch(
    n_agents: int,
    n_actions: int,
    obs_size: int,
    state_size: int,
    episode_limit: int,
    *,
    seed: int = 0,
    reward_per_agent: bool = False,
) -> PyMARLBatch:
    """`hard_batch` in PyMARL's form: seven episodes with every case that masks get wrong.

    obs (B, T+1, N, obs_size), state (B, T+1, state_size), actions (B, T+1, N, 1) int64, actions_onehot float,
    avail_actions int32, reward (B, T+1, 1) or (B, T+1, N), terminated uint8, filled int64.
    """
    spec = EpisodeSpec.of(
        n_agents=n_agents,
        n_actions=n_actions,
        episode_limit=episode_limit,
        obs_shape=(obs_size,),
        state_shape=(state_size,),
        reward_per_agent=reward_per_agent,
    )
    padded = hard_batch(spec, seed)
    for name in ("alive", "truncated", "mask"):  # PyMARL has none of them
        del padded[name]
    padded["avail_actions"] = padded["avail_actions"].int()
    one_hot = functional.one_hot(padded["actions"].squeeze(3), n_actions).float()
    padded["actions_onehot"] = torch.where(padded["filled"][..., None] != 0, one_hot, 0.0)
    return PyMARLBatch(padded)
