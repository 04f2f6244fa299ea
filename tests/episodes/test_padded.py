from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from endmark.episodes import EpisodeBatch, RepairWarning, find_faults, step_mask
from endmark.episodes.padded import RULES
from support.helpers import (
    all_patterns,
    assert_same_episodes,
    batches,
    bits,
    final_frames,
    garbage,
    make_batch,
    make_spec,
    random_batch,
    with_garbage,
)

FLAGS = ("filled", "terminated", "truncated")


def naive_padded(batch: EpisodeBatch, limit: int) -> dict[str, Tensor]:
    """`to_padded`, one frame after the other."""
    n = batch.n_episodes
    fields = batch.spec.fields
    padded = {k: torch.zeros(n, limit + 1, *field.shape, dtype=field.dtype) for k, field in fields.items()}
    flags = {k: torch.zeros(n, limit + 1, 1, dtype=torch.int64) for k in (*FLAGS, "mask")}
    frame = 0
    for e, length in enumerate(batch.lengths.tolist()):
        for t in range(length + 1):
            for name, field in fields.items():
                if field.per == "frame" or (t == length - 1 if field.per == "end" else t < length):
                    padded[name][e, t] = batch[name][frame]
            flags["filled"][e, t] = 1
            flags["mask"][e, t] = int(t < length)
            frame += 1
        flags["terminated" if batch.terminated[e] else "truncated"][e, length - 1] = 1
    return padded | flags


def poisoned(padded: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same with garbage in every field wherever there is no frame, or no step for a step field."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.cat([padded["mask"].bool(), torch.zeros_like(padded["filled"][:, :1]).bool()], 1)
    out = dict(padded)
    for name in padded.keys() - {*FLAGS, "mask"}:
        real = steps if name in ("actions", "reward", "log_prob") else padded["filled"].bool()
        real = real.view(*real.shape[:2], *(1,) * (padded[name].ndim - 2))
        out[name] = torch.where(real, padded[name], garbage(padded[name], generator))
    return out


def pymarl(batch: EpisodeBatch, limit: int, *, seed: int = 0) -> dict[str, Tensor]:
    """The layout and dtypes of PyMARL's replay buffer, padding full of garbage."""
    padded = poisoned(batch.to_padded(limit), seed)
    onehot = torch.nn.functional.one_hot(
        padded["actions"].clamp(0, batch.spec.n_actions - 1), batch.spec.n_actions
    )[..., 0, :]
    return {
        "obs": padded["obs"],
        **({"state": padded["state"]} if "state" in padded else {}),
        "avail_actions": padded["avail_actions"].int(),
        "alive": padded["alive"].unsqueeze(-1).to(torch.uint8),
        "actions": padded["actions"],
        "actions_onehot": onehot.float(),
        "reward": padded["reward"],
        "terminated": padded["terminated"],
        "filled": padded["filled"],
    }


def numpy(padded: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in padded.items()}


# Out.


@given(batches(vectors=None), st.integers(0, 5))
def test_to_padded_is_the_naive_loop(batch: EpisodeBatch, more: int) -> None:
    longest = int(batch.lengths.max())
    for limit in (None, longest, longest + more):
        width = limit or longest
        padded, naive = batch.to_padded(limit), naive_padded(batch, width)
        assert padded.keys() == naive.keys()
        for name in batch.spec.fields:
            want = naive[name]
            assert padded[name].dtype == want.dtype
            numbered = name == "actions" and batch.spec.bounds is None
            if numbered or (name == "reward" and not batch.spec.reward_per_agent):
                want = want.unsqueeze(-1)
            assert torch.equal(padded[name], want), name
        for name in FLAGS:
            assert torch.equal(padded[name].long(), naive[name])
            assert padded[name].shape == (batch.n_episodes, width + 1, 1)
        assert torch.equal(padded["mask"].long(), naive["mask"][:, :-1])


@given(batches(), st.integers(0, 3))
def test_flags_and_mask_of_to_padded(batch: EpisodeBatch, more: int) -> None:
    limit = int(batch.lengths.max()) + more
    padded = batch.to_padded(limit)
    assert [padded[name].dtype for name in FLAGS] == [torch.int64, torch.uint8, torch.uint8]
    assert padded["mask"].dtype == torch.bool
    assert padded["mask"].shape == (batch.n_episodes, limit, 1)
    assert torch.equal(padded["mask"], step_mask(padded["filled"], padded["terminated"]))
    assert find_faults(*(padded[name] for name in FLAGS)) == []


def test_a_limit_too_short_is_refused() -> None:
    batch = make_batch(make_spec(), [2, 5], [True, False])
    with pytest.raises(ValueError, match="limit: given 4, want at least 5"):
        batch.to_padded(4)


# There and back.


@given(batches(vectors=None), st.integers(0, 5), st.booleans())
def test_round_trip(batch: EpisodeBatch, more: int, as_numpy: bool) -> None:
    for limit in (None, int(batch.lengths.max()) + more):
        padded = batch.to_padded(limit)
        back = EpisodeBatch.from_padded(numpy(padded) if as_numpy else padded, batch.spec)
        assert_same_episodes(back, batch)
        for name in batch.spec.step_fields:
            assert (back[name][final_frames(batch)] == 0).all()  # nothing undefined comes back
        for name in batch.spec.outcomes:
            back[name][final_frames(batch) - 1] = 0
            assert (back[name] == 0).all()


@given(batches(extra=False), st.integers(0, 5), st.booleans())
def test_pymarl_layout_in_and_out(batch: EpisodeBatch, more: int, as_numpy: bool) -> None:
    limit = int(batch.lengths.max()) + more
    padded = pymarl(batch, limit)
    back = EpisodeBatch.from_padded(numpy(padded) if as_numpy else padded, batch.spec)
    assert_same_episodes(back, batch)
    out = back.to_padded(limit)
    clean = batch.to_padded(limit)
    assert out.keys() == clean.keys()
    for name in clean:
        assert torch.equal(out[name], clean[name]), name


@given(batches(extra=False), st.integers(0, 5))
def test_the_spec_is_inferred(batch: EpisodeBatch, more: int) -> None:
    limit = int(batch.lengths.max()) + more
    padded = pymarl(batch, limit)
    padded["note"] = torch.zeros(*padded["filled"].shape[:2], 6, dtype=torch.int32)
    back = EpisodeBatch.from_padded(padded)
    note = back.spec.fields["note"]
    assert (note.shape, note.dtype, note.per) == ((6,), torch.int32, "frame")
    want = make_spec(
        n_agents=batch.spec.n_agents,
        n_actions=batch.spec.n_actions,
        limit=limit,
        state="state" in batch.spec.fields,
        reward_per_agent=batch.spec.reward_per_agent and batch.spec.n_agents > 1,
    )
    assert {**back.spec.fields} == {**want.fields, "note": note}
    assert back.spec.episode_limit == limit
    for name, field in want.fields.items():
        given_, stored = (b[name] if field.per == "frame" else b.steps(name) for b in (back, batch))
        assert torch.equal(given_, stored.view_as(given_)), name


@pytest.mark.parametrize("missing", ["obs", "avail_actions", "actions", "reward"])
def test_without_a_spec_some_fields_must_be_there(missing: str) -> None:
    padded = random_batch(0).to_padded()
    del padded[missing]
    with pytest.raises(ValueError, match=f"field '{missing}': missing"):
        EpisodeBatch.from_padded(padded)


def test_all_legal_and_all_alive_where_that_is_not_stored() -> None:
    batch = random_batch(1)
    padded = batch.to_padded()
    del padded["alive"], padded["avail_actions"]
    back = EpisodeBatch.from_padded(padded, batch.spec)
    assert back.alive.all()
    assert back.avail_actions.all()
    assert back.alive.shape == batch.alive.shape
    assert torch.equal(back.obs, batch.obs)
    with pytest.raises(ValueError, match="field 'state': missing, though the spec has it"):
        EpisodeBatch.from_padded({k: v for k, v in padded.items() if k != "state"}, batch.spec)


def test_what_the_spec_does_not_name_is_left_out() -> None:
    batch = random_batch(2)
    padded = batch.to_padded() | {"probs": torch.zeros(3), "actions_onehot": torch.zeros(1, 2)}
    assert_same_episodes(EpisodeBatch.from_padded(padded, batch.spec), batch)


# Padding is nothing.


@given(batches(), st.integers(1, 4), st.integers(0, 1000))
def test_garbage_in_padding_changes_no_bit(batch: EpisodeBatch, more: int, seed: int) -> None:
    padded = batch.to_padded(int(batch.lengths.max()) + more)
    dirty = poisoned(padded, seed)
    assert not torch.equal(dirty["obs"].nan_to_num(7), padded["obs"])
    assert_same_episodes(EpisodeBatch.from_padded(dirty, batch.spec), batch)


def test_garbage_on_final_frames_does_not_leave() -> None:
    batch = random_batch(3, extra=True)
    other = with_garbage(batch, 99)
    assert not torch.equal(other["actions"], batch["actions"])
    out, want = other.to_padded(9), batch.to_padded(9)
    assert all(torch.equal(out[name], want[name]) for name in want)


@pytest.mark.parametrize("seed", range(5))
def test_limit_120_or_1200_gives_the_same_bits(seed: int) -> None:
    spec = make_spec(limit=120)
    batch = random_batch(seed, n_episodes=8, spec=spec)
    short, long = (EpisodeBatch.from_padded(pymarl(batch, limit, seed=limit), spec) for limit in (120, 1200))
    for name in spec.fields:
        assert torch.equal(short[name], long[name]), name
    assert torch.equal(short.lengths, long.lengths)
    assert torch.equal(short.terminated, long.terminated)
    assert_same_episodes(long, batch)


@given(batches())
def test_inputs_are_not_written(batch: EpisodeBatch) -> None:
    padded = pymarl(batch, int(batch.lengths.max()) + 2)
    before = {name: (tensor.clone(), tensor._version) for name, tensor in padded.items()}
    back = EpisodeBatch.from_padded(padded, batch.spec if "log_prob" not in batch.spec.fields else None)
    for name, (clone, version) in before.items():
        assert torch.equal(padded[name].nan_to_num(), clone.nan_to_num())
        assert padded[name]._version == version
    back.obs.zero_()
    assert torch.equal(padded["obs"].nan_to_num(), before["obs"][0].nan_to_num())


def test_arrays_that_torch_cannot_share() -> None:
    batch = random_batch(4)
    arrays = numpy(batch.to_padded())
    reversed_twice = {name: array[::-1].copy()[::-1] for name, array in arrays.items()}
    for array in arrays.values():
        array.setflags(write=False)
    assert_same_episodes(EpisodeBatch.from_padded(arrays, batch.spec), batch)
    assert_same_episodes(EpisodeBatch.from_padded(reversed_twice, batch.spec), batch)
    assert find_faults(reversed_twice["filled"], reversed_twice["terminated"]) == []


# Ends.


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32])
def test_flags_of_every_dtype(dtype: torch.dtype) -> None:
    batch = random_batch(5)
    padded = batch.to_padded(11)
    for name in FLAGS:
        padded[name] = padded[name].to(dtype)
    assert_same_episodes(EpisodeBatch.from_padded(padded, batch.spec), batch)


@given(batches(), st.integers(0, 2))
def test_truncated_need_not_be_stored(batch: EpisodeBatch, more: int) -> None:
    padded = batch.to_padded(int(batch.lengths.max()) + more)
    del padded["truncated"]
    assert_same_episodes(EpisodeBatch.from_padded(padded, batch.spec), batch)


@given(batches())
def test_a_terminated_episode_needs_no_final_frame(batch: EpisodeBatch) -> None:
    """And an episode that was truncated loses the step whose successor is not stored."""
    padded = batch.to_padded()
    rows = torch.arange(batch.n_episodes)
    padded["filled"][rows, batch.lengths] = 0
    del padded["truncated"]
    kept = torch.where(batch.terminated, batch.lengths, batch.lengths - 1)
    if (kept == 0).any():
        with pytest.raises(ValueError, match="the row holds no step"):
            EpisodeBatch.from_padded(padded, batch.spec)
        return
    back = EpisodeBatch.from_padded(padded, batch.spec)
    assert torch.equal(back.lengths, kept)
    assert torch.equal(back.terminated, batch.terminated)
    for given_, want in zip(back.split(), batch.split(), strict=True):
        n_steps = given_.n_steps
        for name, field in batch.spec.fields.items():
            first = n_steps - 1 if field.per == "end" else 0  # an outcome is lost where its step is
            if field.per != "end" or given_.terminated:
                assert torch.equal(given_[name][first:n_steps], want[name][first:n_steps])
            if field.per == "frame":
                last_stored = want[name][n_steps - 1 if given_.terminated else n_steps]
                assert torch.equal(given_[name][-1], last_stored)


@given(batches(), st.integers(0, 2))
def test_arrays_without_a_column_for_the_final_frame(batch: EpisodeBatch, more: int) -> None:
    """T columns for T steps."""
    ended = [episode for episode in batch.split() if episode.terminated]
    if not ended:
        return
    batch = EpisodeBatch.cat(ended)
    padded = poisoned(batch.to_padded(int(batch.lengths.max()) + more), 0)
    padded["filled"][torch.arange(batch.n_episodes), batch.lengths] = 0
    padded = {name: tensor[:, :-1] for name, tensor in padded.items() if name != "mask"}
    back = EpisodeBatch.from_padded(padded, batch.spec, final_frame=False)
    assert_same_episodes(back, batch, final_frames=False)
    assert_same_episodes(
        EpisodeBatch.from_padded(numpy(padded), batch.spec, final_frame=False), batch, final_frames=False
    )
    assert torch.equal(back.obs[final_frames(batch)], batch.obs[final_frames(batch) - 1])


def test_a_full_row_of_steps_without_final_frame_column() -> None:
    batch = make_batch(make_spec(), [3], [True])
    padded = {name: tensor[:, :3] for name, tensor in batch.to_padded().items()}
    back = EpisodeBatch.from_padded(padded, batch.spec, final_frame=False)
    assert back.lengths.tolist() == [3]
    padded["terminated"] = torch.zeros(1, 3, 1)
    padded["truncated"] = bits("001")
    with pytest.raises(ValueError, match=r"episode 0, t 2: truncated, but .* \(unseen\); real steps: 2"):
        EpisodeBatch.from_padded(padded, batch.spec, final_frame=False)
    del padded["truncated"]
    back = EpisodeBatch.from_padded(padded, batch.spec, final_frame=False)
    assert back.lengths.tolist() == [2]
    assert back.truncated.all()


# Faults. The columns: filled, terminated, truncated (None: not stored), rule, t, real steps.

FAULTS: list[tuple[str, str, str | None, str, int, int]] = [
    ("0000", "0000", None, "empty", 0, 0),
    ("1000", "0000", None, "empty", 0, 0),
    ("0111", "0010", None, "empty", 0, 0),
    ("1111111", "0001000", None, "stale", 5, 4),
    ("1111101", "0001000", None, "stale", 6, 4),
    ("1111111", "0100100", None, "second", 3, 2),
    ("1111111", "0100000", "0000100", "second", 3, 2),
    ("1111111", "0000000", "0100000", "second", 1, 1),
    ("1111100", "0001000", "0100000", "second", 1, 1),
    ("110", "010", "100", "second", 0, 0),
    ("1101110", "0000000", None, "gap", 3, 1),
    ("1101110", "0000100", "0000000", "gap", 3, 1),
    ("1110", "0001", None, "outside", 3, 2),
    ("111", "001", None, "outside", 2, 2),
    ("111", "001", "010", "outside", 2, 2),
    ("1110", "0100", "0010", "outside", 2, 2),
    ("1110", "0000", "0001", "outside", 3, 2),
    ("1110", "0100", "0100", "both", 1, 2),
    ("1110", "0000", "0010", "unseen", 2, 2),
    ("1101", "0000", "0100", "unseen", 1, 1),
    ("1111", "0100", "0100", "both", 1, 2),
    ("1011", "0000", "0100", "empty", 0, 0),
    ("111", "000", "001", "unseen", 2, 2),
]


def test_every_rule_is_shown() -> None:
    assert {fault[3] for fault in FAULTS} == set(RULES)


@pytest.mark.parametrize(("filled", "terminated", "truncated", "rule", "t", "kept"), FAULTS)
def test_a_fault_raises_or_is_repaired(
    filled: str, terminated: str, truncated: str | None, rule: str, t: int, kept: int
) -> None:
    """Row 0 is sound, row 1 is not."""
    limit = len(filled) - 1
    spec = make_spec(limit=limit)
    sound = make_batch(spec, [1], [True])
    content = make_batch(spec, [limit, limit], [False, False], seed=1)
    content.fields["actions"][final_frames(content)] = 0
    padded = {name: tensor.view(2, limit + 1, *tensor.shape[1:]) for name, tensor in content.fields.items()}
    for name in padded:
        padded[name][0, :2] = sound[name]
    fill = len(filled) - 2
    padded["filled"] = bits("11" + "0" * fill, filled)
    padded["terminated"] = bits("10" + "0" * fill, terminated)
    if truncated is not None:
        padded["truncated"] = bits("00" + "0" * fill, truncated)

    with pytest.raises(ValueError) as raised:
        EpisodeBatch.from_padded(padded, spec)
    message = str(raised.value)
    assert f"episode 1, t {t}: {RULES[rule]} ({rule}); real steps: {kept}" in message  # type: ignore[index]
    assert "on_error='repair'" in message
    assert ("final_frame=False" in message) == (rule == "outside")

    with pytest.warns(RepairWarning, match=rf"cut in the padded batch:\s+episode 1, t {t}: ") as caught:
        batch = EpisodeBatch.from_padded(padded, spec, on_error="repair")
    warning = caught[0].message
    assert isinstance(warning, RepairWarning)
    assert [(f.row, f.t, f.rule, f.kept) for f in warning.faults] == [(1, t, rule, kept)]
    assert batch.lengths.tolist() == ([1, kept] if kept else [1])
    for given_, row in zip(batch.split(), range(2), strict=False):
        n_steps = given_.n_steps
        for name in spec.fields:
            assert torch.equal(given_[name][:n_steps], padded[name][row, :n_steps])
    ended = bool(kept) and terminated[kept - 1] == "1"
    assert batch.terminated.tolist() == ([True, ended] if kept else [True])


def test_many_faults_are_counted() -> None:
    batch = make_batch(make_spec(), [2] * 9, [True] * 9)
    padded = batch.to_padded(5)
    padded["filled"][2:] = 1
    with pytest.raises(ValueError, match=r"episode 2, t 3: (.|\n)*episode 6, t 3: (.|\n)*and 2 more"):
        EpisodeBatch.from_padded(padded, batch.spec)


def test_nothing_is_said_where_nothing_was_cut() -> None:
    batch = random_batch(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_episodes(
            EpisodeBatch.from_padded(batch.to_padded(9), batch.spec, on_error="repair"), batch
        )


def test_no_row_with_a_step_is_an_error_even_for_repair() -> None:
    batch = make_batch(make_spec(), [1], [True])
    padded = batch.to_padded(3)
    padded["filled"].zero_()
    padded["terminated"].zero_()
    with (
        pytest.warns(RepairWarning),
        pytest.raises(ValueError, match="given no episode with a step, want at least one"),
    ):
        EpisodeBatch.from_padded(padded, batch.spec, on_error="repair")


def naive_kept(filled: list[int], terminated: list[int], truncated: list[int]) -> int:
    """Real steps of a row, walking along it."""
    last = len(filled) - 1

    def is_step(t: int) -> bool:
        return bool(t < last and filled[t] and (filled[t + 1] or terminated[t]))

    t = 0
    while is_step(t):
        if terminated[t]:
            return t + 1
        if truncated[t]:
            goes_on = is_step(t + 1) or (t + 2 <= last and bool(filled[t + 2]))
            return t if goes_on else t + 1  # then the next frame may be another episode's first
        t += 1
    return t


def naive_is_sound(filled: list[int], terminated: list[int], truncated: list[int]) -> bool:
    """Whether a row holds one episode and nothing else."""
    kept = naive_kept(filled, terminated, truncated)
    if kept == 0 or any(filled[kept + 1 :]):
        return False
    ended = bool(terminated[kept - 1])
    return [t for t, flag in enumerate(terminated) if flag] == [kept - 1] * ended and [
        t for t, flag in enumerate(truncated) if flag
    ] in ([[]] if ended else [[], [kept - 1]])


@pytest.mark.parametrize("n_steps", range(5))
def test_find_faults_on_every_pattern(n_steps: int) -> None:
    """Of two flags up to 4 steps; of all three up to 3."""
    filled, terminated = all_patterns(n_steps + 1)
    check_faults(filled, terminated, torch.zeros_like(filled))
    if n_steps < 4:
        check_faults(*all_patterns(n_steps + 1, n_flags=3))


def check_faults(filled: Tensor, terminated: Tensor, truncated: Tensor) -> None:
    faults = {fault.row: fault for fault in find_faults(filled, terminated, truncated)}
    kept = step_mask(filled, terminated).sum((1, 2)).tolist()
    rows = zip(*(flags[..., 0].tolist() for flags in (filled, terminated, truncated)), strict=True)
    for row, flags in enumerate(rows):
        assert (row not in faults) == naive_is_sound(*flags), flags
        if row in faults:
            assert faults[row].kept == naive_kept(*flags), flags
            t = faults[row].t
            assert faults[row].rule == "empty" or any(flag[t] for flag in flags), flags
        elif not truncated.any():
            assert naive_kept(*flags) == kept[row]
        if not truncated.any() and row in faults:
            assert faults[row].kept == kept[row]


@pytest.mark.parametrize("n_flags", [2, 3])
def test_repair_of_every_pattern(n_flags: int) -> None:
    """What is kept is the real prefix; what has no fault comes back as it was."""
    n_columns = 5 if n_flags == 2 else 4
    names = FLAGS[:n_flags]
    flags = dict(zip(names, all_patterns(n_columns, n_flags), strict=True))
    n_rows = len(flags["filled"])
    spec = make_spec(limit=n_columns - 1, n_agents=1, n_actions=2)
    stamp = torch.arange(n_rows * n_columns, dtype=torch.float32).view(n_rows, n_columns)
    padded = flags | {
        "obs": stamp[..., None, None].expand(-1, -1, 1, 5),
        "state": torch.zeros(n_rows, n_columns, 4),
        "actions": torch.ones(n_rows, n_columns, 1, dtype=torch.int64),
        "reward": stamp[..., None],
    }
    with pytest.warns(RepairWarning) as caught:
        batch = EpisodeBatch.from_padded(padded, spec, on_error="repair")
    warning = caught[0].message
    assert isinstance(warning, RepairWarning)
    truncated = flags.get("truncated", torch.zeros_like(flags["filled"]))
    rows = [
        tuple(tensor[..., 0].tolist() for tensor in (filled, terminated, cut))
        for filled, terminated, cut in zip(flags["filled"], flags["terminated"], truncated, strict=True)
    ]
    kept = {row: n for row, r in enumerate(rows) if (n := naive_kept(*r))}
    assert batch.lengths.tolist() == list(kept.values())
    assert batch.steps("reward").tolist() == [
        stamp[row, t].item() for row, length in kept.items() for t in range(length)
    ]
    faulty = {fault.row for fault in warning.faults}
    assert faulty == {row for row, r in enumerate(rows) if not naive_is_sound(*r)}
    out = batch.to_padded(n_columns - 1)
    for e, row in enumerate(kept):
        if row in faulty:
            continue
        assert torch.equal(out["terminated"][e].long(), flags["terminated"][row])
        assert torch.equal(out["mask"][e], step_mask(flags["filled"][[row]], flags["terminated"][[row]])[0])
        stored = flags["filled"][row]
        at_final = torch.arange(n_columns) == kept[row]
        assert torch.equal(out["filled"][e, ~at_final], stored[~at_final])
        if truncated[row].any():
            assert torch.equal(out["truncated"][e].long(), truncated[row])


# Wrong input.


Change = Callable[[dict[str, Any]], object]

WRONG: dict[str, tuple[Change, type[Exception], str]] = {
    "no filled": (lambda p: p.pop("filled"), ValueError, "field 'filled': missing"),
    "no terminated": (lambda p: p.pop("terminated"), ValueError, "field 'terminated': missing"),
    "a list": (
        lambda p: p.update(reward=[1.0]),
        TypeError,
        "field 'reward': given list, want a tensor or an array",
    ),
    "no time axis": (
        lambda p: p.update(reward=torch.zeros(3)),
        ValueError,
        r"field 'reward': given shape \(3,\), want \(B, T\+1, ...\)",
    ),
    "flag value": (
        lambda p: p["filled"].__setitem__((2, 1), 3),
        ValueError,
        "filled: row 2, t 1: given 3, want 0 or 1",
    ),
    "terminated too short": (
        lambda p: p.update(terminated=p["terminated"][:, :-1]),
        ValueError,
        r"field 'terminated': given shape \(3, 4, 1\), want \(3, 5\)",
    ),
    "truncated too short": (
        lambda p: p.update(truncated=p["truncated"][:, :-1]),
        ValueError,
        r"field 'truncated': given shape \(3, 4, 1\), want \(3, 5\)",
    ),
    "flags without last axis": (
        lambda p: p.update(truncated=p["truncated"][..., 0]),
        ValueError,
        r"truncated: given shape \(3, 5\), want \(B, T\+1, 1\)",
    ),
    "obs too long": (
        lambda p: p.update(obs=torch.zeros(3, 6, 3, 5)),
        ValueError,
        r"field 'obs': given shape \(3, 6, 3, 5\), want \(3, 5\)",
    ),
    "obs too wide": (
        lambda p: p.update(obs=torch.zeros(3, 5, 3, 6)),
        ValueError,
        r"field 'obs': given shape \(3, 5, 3, 6\), want \(B, T\+1, 3, 5\)",
    ),
    "action that does not exist": (
        lambda p: p["actions"].__setitem__((1, 0, 2, 0), 4),
        ValueError,
        "field 'actions': episode 1, step 0, agent 2: given 4, want 0 <= action < 4",
    ),
    "reward": (
        lambda p: p["reward"].__setitem__((2, 1), float("nan")),
        ValueError,
        "field 'reward': episode 2, step 1: given nan, want a finite number",
    ),
    "fractional action": (
        lambda p: p.update(actions=p["actions"] + 0.5),
        ValueError,
        "field 'actions': row 0, t 0: given .*[.]5, want torch.int64",
    ),
    "NaN action": (
        lambda p: p.update(actions=torch.full((3, 5, 3, 1), float("nan"))),
        ValueError,
        "field 'actions': row 0, t 0: given nan, want torch.int64",
    ),
    "avail that is no flag": (
        lambda p: p.update(avail_actions=p["avail_actions"].int() * 2),
        ValueError,
        "field 'avail_actions': row 0, t 0: given 2, want torch.bool",
    ),
    "alive that is no flag": (
        lambda p: p.update(alive=torch.full((3, 5, 3), 0.5)),
        ValueError,
        "field 'alive': row 0, t 0: given 0.5, want torch.bool",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("on_error", ["raise", "repair"])
def test_wrong_input_is_named(case: str, on_error: Any) -> None:
    change, error, message = WRONG[case]
    batch = make_batch(make_spec(limit=4), [4, 1, 3], [True, True, False])
    padded = batch.to_padded()
    change(padded)
    with pytest.raises(error, match=message):
        EpisodeBatch.from_padded(padded, batch.spec, on_error=on_error)


def test_float_actions_may_be_anything_where_there_is_no_step() -> None:
    batch = make_batch(make_spec(limit=4), [2, 4], [False, True])
    padded = batch.to_padded()
    actions = padded["actions"].float()
    actions[0, 2:] = float("nan")
    actions[1, 4:] = 0.5
    assert_same_episodes(EpisodeBatch.from_padded(padded | {"actions": actions}, batch.spec), batch)


def test_find_faults_refuses_shapes_that_differ() -> None:
    with pytest.raises(
        ValueError, match=r"terminated: given shape \(1, 3, 1\), want \(1, 4, 1\) like filled"
    ):
        find_faults(bits("1111"), bits("001"))
    with pytest.raises(ValueError, match=r"truncated: given shape \(1, 3, 1\), want \(1, 4, 1\) like filled"):
        find_faults(bits("1111"), bits("0010"), bits("001"))


def test_an_episode_longer_than_the_spec_allows() -> None:
    batch = make_batch(make_spec(limit=6), [2, 6], [True, True])
    with pytest.raises(ValueError, match="lengths: episode 1: given 6 steps, want at most 5"):
        EpisodeBatch.from_padded(batch.to_padded(), make_spec(limit=5))


def test_patterns_are_all_there() -> None:
    """The exhaustive tests are worth what their patterns are worth."""
    filled, terminated = all_patterns(3)
    seen = {(*f, *d) for f, d in zip(filled[..., 0].tolist(), terminated[..., 0].tolist(), strict=True)}
    assert seen == set(itertools.product([0, 1], repeat=6))


def test_numpy_flags_in_find_faults() -> None:
    filled = np.array([[[1], [1], [1]]], dtype=np.uint8)
    (fault,) = find_faults(filled, np.array([[[1], [0], [0]]], dtype=bool))
    assert (fault.rule, fault.t, fault.kept) == ("stale", 2, 1)
