"""Random padded batches against the naive rule, for `benchmarks.fuzz`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import naive
from endmark.episodes import (
    EpisodeBatch,
    EpisodeSpec,
    RepairWarning,
    explain_mask,
    find_faults,
    shift_mask,
    step_mask,
)

Array = npt.NDArray[Any]
FLAGS = ("filled", "terminated", "truncated")
DTYPES = ("int64", "uint8", "bool", "float32", "float64", "int32")
AGENTS, ACTIONS = 2, 3


class Case(NamedTuple):
    """A padded batch: flags as bits, and how they are handed over. wrong: a value that is no flag, where."""

    flags: dict[str, Array]
    dtypes: tuple[str, ...]
    final_frame: bool
    as_arrays: bool
    infer_spec: bool
    wrong: tuple[str, int, int, float] | None

    def __str__(self) -> str:
        shown = {
            name: ["".join(map(str, row)) for row in flags.tolist()] for name, flags in self.flags.items()
        }
        return f"{shown} {self._replace(flags={})[1:]}"


def cases(seed: int, chunk: int, n: int) -> Iterator[Case]:
    """`n` random batches of one shape: episodes of every kind, damaged a little, a lot, or not at all."""
    draw = np.random.default_rng([seed, chunk])
    rows, columns = int(draw.integers(1, 5)), int(draw.integers(2, 10))
    final_frame = bool(draw.random() < 0.8)
    shape = (n, rows, columns)
    column = np.arange(columns)
    length = draw.integers(0, columns, (n, rows, 1))
    ended = draw.random((n, rows, 1)) < 0.5
    with_final = draw.random((n, rows, 1)) < np.where(ended, 0.7, 0.95)
    second = (draw.random((n, rows, 1)) < 0.15) & (column > length + draw.integers(0, 2, (n, rows, 1)))
    filled = (column < length) | ((column == length) & with_final) | second
    last = column == length - 1
    damage = draw.choice([0.0, 0.0, 0.02, 0.1, 0.5], (n, 1, 1))
    bits = {
        name: (flags ^ (draw.random(shape) < damage)).astype(np.int64)
        for name, flags in {"filled": filled, "terminated": last & ended, "truncated": last & ~ended}.items()
    }
    for i in range(n):
        names = FLAGS if draw.random() < 0.7 else FLAGS[:2]
        wrong = None
        if draw.random() < 0.02:
            value = (2.0, -1.0, 0.5, float("nan"))[draw.integers(4)]
            wrong = (
                names[draw.integers(len(names))],
                int(draw.integers(rows)),
                int(draw.integers(columns)),
                value,
            )
        yield Case(
            {name: bits[name][i] for name in names},
            tuple(DTYPES[k] for k in draw.integers(0, len(DTYPES), 3)),
            final_frame,
            bool(draw.random() < 0.3),
            bool(draw.random() < 0.1),
            wrong,
        )


def check(case: Case) -> str | None:
    """What is wrong with endmark on this batch; None if nothing is."""
    try:
        return _check(case)
    except Exception as error:  # which no batch may raise outside of what is expected
        return f"raised {type(error).__name__}: {' '.join(str(error).split())}"


def _check(case: Case) -> str | None:
    flags = {
        name: bits.astype(dtype)[..., None]
        for (name, bits), dtype in zip(case.flags.items(), case.dtypes, strict=False)
    }
    if case.wrong is not None:
        return _check_wrong_flag(flags, *case.wrong)
    padding = 0 if case.final_frame else 1
    lists = {name: [row + [0] * padding for row in bits.tolist()] for name, bits in case.flags.items()}
    n_rows, columns = case.flags["filled"].shape
    none = [[0] * (columns + padding)] * n_rows
    cuts = lists.get("truncated", none)
    rows = [naive.read_row(*row) for row in zip(lists["filled"], lists["terminated"], cuts, strict=True)]
    arrays = flags | _content(rows, lists["filled"], columns)
    before = [array.tobytes() for array in arrays.values()]
    handed: dict[str, Any] = (
        dict(arrays) if case.as_arrays else {name: torch.from_numpy(array) for name, array in arrays.items()}
    )
    problem = (
        _check_masks(case, handed) or _check_faults(case, handed, rows) or _check_episodes(case, handed, rows)
    )
    if before != [array.tobytes() for array in arrays.values()]:
        return "an input was changed"
    return problem


def _check_wrong_flag(flags: dict[str, Array], name: str, row: int, t: int, value: float) -> str | None:
    flags[name] = flags[name].astype(np.float64)
    flags[name][row, t] = value
    tensors = {key: torch.from_numpy(array) for key, array in flags.items()}
    want = f"{name}: row {row}, t {t}: given {value}, want 0 or 1"
    functions = [find_faults] if name == "truncated" else [step_mask, shift_mask, explain_mask, find_faults]
    for function in functions:
        given = tensors if function is find_faults else {key: tensors[key] for key in FLAGS[:2]}
        try:
            function(**given)
        except ValueError as error:
            if str(error) == want:
                continue
            return f"{function.__name__} said '{error}', want '{want}'"
        return f"{function.__name__} took {want}"
    return None


def _content(rows: list[naive.Row], filled: list[list[int]], columns: int) -> dict[str, Array]:
    """Fields whose numbers say where they are; NaN and no action wherever nothing of an episode is."""
    kept = np.array([row.kept for row in rows])[:, None]
    column = np.arange(columns)
    frames = (column <= kept) & (kept > 0) & (np.array(filled)[:, :columns] == 1)
    code = _code(len(rows), columns)
    obs = np.where(frames, code, np.float32(np.nan))
    steps = column < kept
    return {
        "obs": obs[..., None, None].repeat(AGENTS, 2),
        "avail_actions": np.ones((len(rows), columns, AGENTS, ACTIONS), dtype=np.int32),
        "actions": np.where(steps, code % ACTIONS, 99).astype(np.int64)[..., None, None].repeat(AGENTS, 2),
        "reward": np.where(steps, code, np.float32(np.nan))[..., None],
    }


@cache
def _code(rows: int, columns: int) -> Array:
    return (np.arange(rows, dtype=np.float32)[:, None] * 16) + np.arange(columns, dtype=np.float32)


@cache
def _spec(limit: int) -> EpisodeSpec:
    return EpisodeSpec.of(n_agents=AGENTS, n_actions=ACTIONS, episode_limit=limit, obs_shape=(1,))


def _check_masks(case: Case, handed: dict[str, Any]) -> str | None:
    filled, terminated = handed["filled"], handed["terminated"]
    pairs = list(zip(case.flags["filled"].tolist(), case.flags["terminated"].tolist(), strict=True))
    exact = [naive.step_mask(*pair) for pair in pairs]
    if (given := step_mask(filled, terminated)[..., 0].int().tolist()) != exact:
        return f"step_mask: given {given}, want {exact}"
    shift = [naive.shift_mask(*pair) for pair in pairs]
    if (shifted := shift_mask(filled, terminated)[..., 0].tolist()) != shift:
        return f"shift_mask: given {shifted}, want {shift}"
    explanation = explain_mask(filled, terminated)
    if explanation.exact.int().tolist() != exact or explanation.shift.float().tolist() != shift:
        return "explain_mask: its masks are not those of step_mask and shift_mask"
    want = [(row, t, why) for row, pair in enumerate(pairs) for t, why in naive.differences(*pair)]
    found = [(d.row, d.t, d.reason) for d in explanation.differences]
    return None if found == want else f"explain_mask: given {found}, want {want}"


def _faults(rows: list[naive.Row]) -> list[tuple[int, int, str, int]]:
    return [(r, *row.fault, row.kept) for r, row in enumerate(rows) if row.fault is not None]


def _check_faults(case: Case, handed: dict[str, Any], rows: list[naive.Row]) -> str | None:
    if not case.final_frame:
        return None  # find_faults has no such option; from_padded is asked below
    given = find_faults(*(handed.get(name) for name in FLAGS))
    found = [(fault.row, fault.t, fault.rule, fault.kept) for fault in given]
    want = _faults(rows)
    return None if found == want else f"find_faults: given {found}, want {want}"


def _check_episodes(case: Case, handed: dict[str, Any], rows: list[naive.Row]) -> str | None:
    columns = case.flags["filled"].shape[1] + (not case.final_frame)
    spec = None if case.infer_spec else _spec(columns - 1)
    faults = _faults(rows)
    real = [(r, row) for r, row in enumerate(rows) if row.kept > 0]
    if faults:
        try:
            EpisodeBatch.from_padded(handed, spec, final_frame=case.final_frame)
            return "from_padded took a batch with faults"
        except ValueError as error:
            said = str(error)
        for row, t, rule, kept in faults[:5]:
            if f"episode {row}, t {t}: " not in said or f"({rule}); real steps: {kept}" not in said:
                return f"from_padded said '{said}', want {faults}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            batch = EpisodeBatch.from_padded(handed, spec, on_error="repair", final_frame=case.final_frame)
        except ValueError as error:
            expected = "filled: given no episode with a step, want at least one"
            return None if not real and str(error) == expected else f"repair raised '{error}'"
    if not real:
        return "repair made a batch of no episode"
    warned = [warning.message for warning in caught]
    cut = [
        (fault.row, fault.t, fault.rule, fault.kept)
        for warning in warned
        if isinstance(warning, RepairWarning)
        for fault in warning.faults
    ]
    if cut != faults or len(warned) != bool(faults):
        return f"repair cut {cut}, want {faults}"
    return _check_batch(batch, real, case.flags["filled"].tolist())


def _check_batch(
    batch: EpisodeBatch, real: list[tuple[int, naive.Row]], filled: list[list[int]]
) -> str | None:
    """The ragged batch against the naive rows, and what comes back from `to_padded`."""
    lengths = [row.kept for _, row in real]
    if batch.lengths.tolist() != lengths or batch.terminated.tolist() != [row.ended for _, row in real]:
        return f"lengths {batch.lengths.tolist()}, terminated {batch.terminated.tolist()}, want {real}"
    obs: list[float] = []
    reward: list[float] = []
    for r, row in real:
        obs += [16.0 * r + t for t in range(row.kept)]
        has_final = row.kept < len(filled[r]) and filled[r][row.kept]  # else the frame before is repeated
        obs.append(16.0 * r + (row.kept if has_final else row.kept - 1))
        reward += [16.0 * r + t for t in range(row.kept)]
    actions = [[int(code) % ACTIONS] * AGENTS for code in reward]
    for name, given, want in [
        ("obs", batch.obs[..., 0].tolist(), [[code] * AGENTS for code in obs]),
        ("reward", batch.steps("reward").tolist(), reward),
        ("actions", batch.steps("actions").tolist(), actions),
    ]:
        if given != want:
            return f"field '{name}': given {given}, want {want}"
    padded = batch.to_padded()
    width = max(lengths) + 1
    flags = {
        "filled": [[int(t <= n) for t in range(width)] for n in lengths],
        "terminated": [[int(t == row.kept - 1 and row.ended) for t in range(width)] for _, row in real],
        "truncated": [[int(t == row.kept - 1 and not row.ended) for t in range(width)] for _, row in real],
        "mask": [[int(t < n) for t in range(width - 1)] for n in lengths],
    }
    for name, rows in flags.items():
        if padded[name][..., 0].int().tolist() != rows:
            return f"to_padded: '{name}': given {padded[name][..., 0].tolist()}, want {rows}"
    back = EpisodeBatch.from_padded(padded, batch.spec)
    if back.lengths.tolist() != lengths or not torch.equal(back.terminated, batch.terminated):
        return "there and back: other lengths or ends"
    for name, field in batch.spec.fields.items():
        same = (
            torch.equal(back[name], batch[name])
            if field.per == "frame"
            else torch.equal(back.steps(name), batch.steps(name))
        )
        if not same:
            return f"there and back: field '{name}' is another"
    return None
