"""Conversion from padded tensors (`unpad`) and to padded tensors (`pad`). No other file has padding.

The padded layout is that of PyMARL and its descendants: every field (B, T+1, ...), column t holds frame
t and, if there is one, step t; `filled` and `terminated` (B, T+1, 1) say what is real.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from endmark.episodes import ragged
from endmark.episodes.images import image_layout
from endmark.episodes.masks import as_flags, as_tensor, step_mask
from endmark.episodes.spec import DERIVED, FLAGS, EpisodeSpec, Field, Per

Rule = Literal["empty", "stale", "second", "gap", "outside", "both", "unseen"]
RULES: dict[Rule, str] = {
    "empty": "the row holds no step: nothing is filled, or a first frame alone",
    "stale": "filled after the end of the episode",
    "second": "the row goes on after the episode's end with another one",
    "gap": "filled, though an earlier frame of the row is not",
    "outside": "terminated or truncated where there is no step",
    "both": "terminated and truncated at once",
    "unseen": "truncated, but the frame that follows the step is not filled, so its value is unknown",
}


@dataclass(frozen=True)
class Fault:
    """The first entry of a padded row that does not fit one episode.

    row, t: its position. rule: a key of `RULES`. kept: the number of real steps, which `repair` keeps.
    """

    row: int
    t: int
    rule: Rule
    kept: int

    def __str__(self) -> str:
        return f"episode {self.row}, t {self.t}: {RULES[self.rule]} ({self.rule}); real steps: {self.kept}"


class RepairWarning(UserWarning):
    """`from_padded(..., on_error="repair")` cut data; `faults` lists the cuts."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(_summary(faults, "cut"))
        self.faults = faults


def find_faults(filled: object, terminated: object, truncated: object = None) -> list[Fault]:
    """The fault of each row of padded flags (B, T+1, 1) that holds anything but one episode.

    A row with an early truncation, or whose terminated episode lacks its final frame, has no fault.
    """
    return _read_flags(filled, terminated, truncated)[2]


def unpad(
    padded: Mapping[str, Any],
    spec: EpisodeSpec | None,
    *,
    on_error: Literal["raise", "repair"],
    final_frame: bool,
) -> tuple[EpisodeSpec, dict[str, Tensor], Int[Tensor, " E"], Bool[Tensor, " E"]]:
    """Spec, ragged fields, lengths and terminated flags from padded tensors or arrays.

    The implementation of `EpisodeBatch.from_padded`; arguments and errors are described there.
    """
    if on_error not in ("raise", "repair"):
        raise ValueError(f"on_error: given {on_error!r}, want 'raise' or 'repair'")
    for name in ("filled", "terminated"):
        if name not in padded:
            raise ValueError(f"field '{name}': missing; given {', '.join(padded) or 'nothing'}")
    used = padded.keys() - DERIVED if spec is None else padded.keys() & {*FLAGS, *spec.fields}
    tensors = {name: _tensor(name, value) for name, value in padded.items() if name in used}
    columns = tuple(tensors["filled"].shape[:2])
    for name, tensor in tensors.items():
        if tensor.shape[:2] != columns:
            raise ValueError(
                f"field '{name}': given shape {tuple(tensor.shape)}, want {columns} + (...) like filled"
            )
    if not final_frame:  # append a column that is not filled, as if the final frame were not stored
        tensors = {name: _append_column(tensor) for name, tensor in tensors.items()}
    filled, terminated = tensors["filled"], tensors["terminated"]
    lengths, ended, faults = _read_flags(filled, terminated, tensors.get("truncated"))
    if faults and on_error == "raise":
        raise ValueError(_summary(faults, "found"))
    if faults:
        warnings.warn(RepairWarning(faults), stacklevel=3)
    rows = torch.nonzero(lengths)[:, 0]  # rows that hold no step are left out
    if len(rows) == 0:
        raise ValueError("filled: given no episode with a step, want at least one")
    spec = spec or _infer_spec(tensors)
    lengths, ended = lengths[rows], ended[rows]

    # Gather: row and time of every ragged frame. A final frame that was not stored repeats the frame before.
    # That happens after a terminated step only, whose successor's value is never read.
    times = ragged.ramp(lengths + 1)
    rows_of_frames = rows.repeat_interleave(lengths + 1)
    stored = as_flags("filled", filled)[..., 0].cpu()[rows_of_frames, times]
    times = torch.where(stored, times, times - 1)
    device = filled.device
    index, defined = (rows_of_frames.to(device), times.to(device)), _defined(lengths, device)
    fields = {
        name: _gather(name, field, tensors.get(name), index, defined[field.per])
        for name, field in spec.fields.items()
    }
    return spec, fields, lengths, ended.to(device)


def pad(
    spec: EpisodeSpec,
    fields: Mapping[str, Tensor],
    lengths: Int[Tensor, " E"],
    terminated: Bool[Tensor, " E"],
    limit: int | None,
) -> dict[str, Tensor]:
    """Padded tensors from ragged ones; the implementation of `EpisodeBatch.to_padded`."""
    longest = int(lengths.max())
    limit = longest if limit is None else limit
    if limit < longest:
        raise ValueError(f"limit: given {limit}, want at least {longest}, the longest episode of the batch")
    device, n_episodes = terminated.device, len(lengths)
    times = ragged.ramp(lengths + 1).to(device)
    rows = torch.arange(n_episodes).repeat_interleave(lengths + 1).to(device)
    defined = _defined(lengths, device)
    padded: dict[str, Tensor] = {}
    for name, field in spec.fields.items():
        keep = defined[field.per]
        tensor = torch.zeros((n_episodes, limit + 1, *field.shape), dtype=field.dtype, device=device)
        tensor[rows[keep], times[keep]] = fields[name][keep]
        padded[name] = tensor.unsqueeze(-1) if _has_trailing_one(name, field) else tensor
    flags = torch.zeros((4, n_episodes, limit + 1, 1), dtype=torch.bool, device=device)
    filled, ended, cut, mask = flags.unbind()
    filled[rows, times] = True
    mask[rows[defined["step"]], times[defined["step"]]] = True
    last = torch.arange(n_episodes, device=device), (lengths - 1).to(device)
    ended[last] = terminated[:, None]
    cut[last] = ~terminated[:, None]
    # Integer flags, since code for padded batches computes `1 - terminated`.
    return padded | {
        "filled": filled.long(),
        "terminated": ended.to(torch.uint8),
        "truncated": cut.to(torch.uint8),
        "mask": mask[:, :-1],
    }


def _read_flags(filled: object, terminated: object, truncated: object) -> tuple[Tensor, Tensor, list[Fault]]:
    """For each row, on the CPU: the real steps, whether the last one terminated, and the first fault."""
    frames, ends = as_flags("filled", filled).cpu(), as_flags("terminated", terminated).cpu()
    cuts = torch.zeros_like(ends) if truncated is None else as_flags("truncated", truncated).cpu()
    for name, flags in [("terminated", ends), ("truncated", cuts)]:
        if flags.shape != frames.shape:
            raise ValueError(
                f"{name}: given shape {tuple(flags.shape)}, want {tuple(frames.shape)} like filled"
            )
    # If a row goes on after a truncated step, the next frame may be the first one of another episode. It is
    # therefore not taken as the step's successor.
    goes_on = torch.zeros_like(cuts)
    truncated_steps = cuts & frames & ~ends
    goes_on[:, :-2] = truncated_steps[:, :-2] & frames[:, 1:-1] & (frames[:, 2:] | ends[:, 1:-1])
    own_frames = frames & (goes_on.cumsum(1) - goes_on.long() == 0)
    lengths = step_mask(own_frames, ends)[..., 0].sum(1)
    frames, ends, cuts, goes_on = frames[..., 0], ends[..., 0], cuts[..., 0], goes_on[..., 0]

    column, length = torch.arange(frames.shape[1]), lengths[:, None]
    ended = (ends & (column == length - 1)).any(1)
    extra_frame = frames & (column > length)
    extra_end = ends & (column != length - 1)
    extra_cut = cuts & ((column != length - 1) | ended[:, None])
    extra = extra_frame | extra_end | extra_cut
    faults = []
    for row in torch.nonzero(extra.any(1) | (lengths == 0))[:, 0].tolist():
        t = int(extra[row].long().argmax())
        rule: Rule
        if lengths[row] == 0 and not goes_on[row, 0]:
            t, rule = 0, "empty"
        elif goes_on[row, : t + 1].any():
            rule = "second"
        elif extra_frame[row, t] and not ended[row]:
            rule = "gap"
        elif extra_frame[row, t]:
            rule = "second" if (extra_end | extra_cut)[row].any() else "stale"
        elif extra_end[row, t] or not frames[row, t]:
            rule = "outside"
        elif ended[row]:
            rule = "both" if t < lengths[row] else "outside"
        else:
            rule = "unseen"
        faults.append(Fault(row, t, rule, int(lengths[row])))
    return lengths, ended, faults


def _summary(faults: list[Fault], verb: str) -> str:
    shown = "\n  ".join(str(fault) for fault in faults[:5])
    more = f"\n  and {len(faults) - 5} more" if len(faults) > 5 else ""
    hint = ""
    if verb == "found":
        hint = "\non_error='repair' keeps the real steps of each row"
        if any(fault.rule == "outside" for fault in faults):
            hint += "; final_frame=False is for arrays that have no column for the final frame"
    return f"{verb} in the padded batch:\n  {shown}{more}{hint}"


def _infer_spec(tensors: Mapping[str, Tensor]) -> EpisodeSpec:
    """The spec of padded tensors. `obs` and `avail_actions` give the numbers of agents and actions."""
    actions = tensors.get("actions")
    if "avail_actions" not in tensors and actions is not None and actions.is_floating_point():
        want = "want 'avail_actions', or for vectors a spec with their bounds (EpisodeSpec.of(bounds=...))"
        raise ValueError(f"field 'actions': given {actions.dtype}, {want}")
    for name in ("obs", "avail_actions", "actions", "reward"):
        if name not in tensors:
            raise ValueError(f"field '{name}': missing, and no spec is given that could stand in for it")
    avail, obs, state = tensors["avail_actions"], tensors["obs"], tensors.get("state")
    if avail.ndim != 4:
        raise ValueError(f"field 'avail_actions': given shape {tuple(avail.shape)}, want (B, T+1, N, A)")
    n_agents, n_actions = avail.shape[2:]
    standard = {"obs", "avail_actions", "alive", "state", "actions", "reward", *FLAGS}
    return EpisodeSpec.of(
        n_agents=n_agents,
        n_actions=n_actions,
        episode_limit=avail.shape[1] - 1,
        obs_shape=tuple(obs.shape[3:]),
        obs_dtype=_seen_dtype(obs.shape[3:], obs.dtype),
        state_shape=None if state is None else tuple(state.shape[2:]),
        state_dtype=torch.float32 if state is None else _seen_dtype(state.shape[2:], state.dtype),
        reward_per_agent=n_agents > 1 and tuple(tensors["reward"].shape[2:]) == (n_agents,),
        extra={k: Field(tuple(v.shape[2:]), v.dtype) for k, v in tensors.items() if k not in standard},
    )


def _defined(lengths: Int[Tensor, " E"], device: torch.device) -> dict[Per, Tensor]:
    """The frames at which a field of each kind is defined."""
    frames: dict[Per, Tensor] = {
        "frame": torch.arange(int((lengths + 1).sum())),
        "step": ragged.step_frames(lengths),
        "end": ragged.final_frames(lengths) - 1,
    }
    return {per: index.to(device) for per, index in frames.items()}


def _seen_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> torch.dtype:
    """Images in uint8 stay as they are, and all else that is seen becomes float32."""
    return dtype if dtype == torch.uint8 and image_layout(shape) else torch.float32


def _gather(
    name: str, field: Field, tensor: Tensor | None, index: tuple[Tensor, Tensor], defined: Tensor
) -> Shaped[Tensor, "F ..."]:
    if tensor is None:
        if name in ("avail_actions", "alive"):  # if not stored: all legal, all alive
            return torch.ones((len(index[0]), *field.shape), dtype=torch.bool, device=index[0].device)
        raise ValueError(f"field '{name}': missing, though the spec has it")
    ragged_field = tensor[index]
    if tuple(tensor.shape[2:]) == (*field.shape, 1):
        ragged_field = ragged_field.squeeze(-1)
    elif tuple(tensor.shape[2:]) != field.shape:
        want = ", ".join(map(str, ("B", "T+1", *field.shape)))
        raise ValueError(f"field '{name}': given shape {tuple(tensor.shape)}, want ({want})")
    if field.per != "frame":
        stored, ragged_field = ragged_field, torch.zeros_like(ragged_field)
        ragged_field[defined] = stored[defined]
    wrong = _cannot_be(field.dtype, ragged_field)
    if wrong.any():
        first = wrong.nonzero()[0]
        row, t = (int(axis[first[0]]) for axis in index)
        given = ragged_field[tuple(first)].item()
        raise ValueError(f"field '{name}': row {row}, t {t}: given {given}, want {field.dtype}")
    return ragged_field.to(field.dtype)


def _cannot_be(dtype: torch.dtype, value: Tensor) -> Tensor:
    """Where `value` has no equal in `dtype`: fractions and NaN for integers, all but 0 and 1 for bool."""
    if dtype == torch.bool:
        return (value != 0) & (value != 1)
    if value.is_floating_point() and not dtype.is_floating_point:
        return ~value.isfinite() | (value != value.round())
    return torch.zeros_like(value, dtype=torch.bool)


def _has_trailing_one(name: str, field: Field) -> bool:
    return (name == "actions" and len(field.shape) == 1) or (name == "reward" and field.shape == ())


def _tensor(name: str, value: object) -> Tensor:
    tensor = as_tensor(f"field '{name}'", value)
    if tensor.ndim < 2:
        raise ValueError(f"field '{name}': given shape {tuple(tensor.shape)}, want (B, T+1, ...)")
    return tensor


def _append_column(tensor: Tensor) -> Tensor:
    return pad_tensor(tensor, (0, 0) * (tensor.ndim - 2) + (0, 1))
