from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.episodes.masks import REASONS, explain_mask
from endmark.episodes.padded import RULES
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.inspection_text import histogram
from endmark.inspect.source import Source
from support.helpers import all_patterns, bits, make_batch, make_spec, random_batch
from support.inspections import shown

NAN, INF = float("nan"), float("inf")

# filled, terminated: the real steps, how they end, the first fault, the reasons of the differences
WORKED: dict[str, tuple[str, str, int, str, str | None, dict[str, int]]] = {
    "filled to the brim after the end": ("1111111", "0001000", 4, "terminated", "stale", {"stale": 1}),
    "PyMARL layout, ended at step 3": ("1111100", "0001000", 4, "terminated", None, {}),
    "truncated after 4 steps": ("1111100", "0000000", 4, "truncated", None, {"phantom": 1}),
    "final frame not stored": ("1111000", "0001000", 4, "terminated", None, {}),
    "full length, truncated at the limit": ("1111111", "0000000", 6, "truncated", None, {}),
    "full length, terminated at the last step": ("1111111", "0000010", 6, "terminated", None, {}),
    "nothing filled": ("0000000", "0000000", 0, "empty", "empty", {}),
}


def source_of(**tensors: Tensor) -> Source:
    return Source("batch.npz", "padded batch", tensors)


def random_source(seed: int, **options: Any) -> Source:
    """A random batch with NaN, infinity and flags strewn over it."""
    padded = random_batch(seed, **options).to_padded()
    del padded["mask"]
    generator = torch.Generator().manual_seed(seed)
    for name in ("obs", "state", "reward"):
        wrong = torch.rand(padded[name].shape, generator=generator) < 0.01
        padded[name][wrong] = [NAN, INF, -INF][seed % 3]
    if seed % 2:
        for name in ("filled", "terminated", "truncated"):
            flipped = torch.rand(padded[name].shape, generator=generator) < 0.05
            padded[name][flipped] = 1 - padded[name][flipped]
    return Source("batch.npz", "padded batch", padded)


def naive_length(filled: list[int], terminated: list[int], truncated: list[int]) -> int:
    """The steps that belong to the row's episode, one after the other."""
    for t in range(len(filled) - 1):
        follows = filled[t + 1] or terminated[t]
        # a row that goes on after a cut: the frame after it may be the next episode's
        later = filled[t + 2] or (filled[t + 1] and terminated[t + 1]) if t + 2 < len(filled) else 0
        if not filled[t] or not follows or (truncated[t] and later and not terminated[t]):
            return t
        if terminated[t]:
            return t + 1
    return len(filled) - 1


@pytest.mark.parametrize("case", WORKED)
def test_worked_table(case: str) -> None:
    filled, terminated, length, end, fault, reasons = WORKED[case]
    found = inspect(source_of(filled=bits(filled), terminated=bits(terminated)))
    assert found.lengths == [length]
    assert found.ends == [end]
    assert [f.rule for f in found.faults] == ([] if fault is None else [fault])
    assert found.reason_counts == reasons
    assert found.broken == (fault is not None)


def test_lengths_and_ends_of_known_episodes() -> None:
    batch = random_batch(3, n_episodes=9)
    padded = batch.to_padded()
    del padded["mask"]
    found = inspect(Source("x", "replay", padded, frozenset(batch.spec.step_fields)))
    assert found.lengths == batch.lengths.tolist()
    assert [end == "terminated" for end in found.ends] == batch.terminated.tolist()
    assert (found.terminated, found.truncated) == (int(batch.terminated.sum()), int(batch.truncated.sum()))
    assert found.steps == batch.n_steps
    assert (found.empty, found.faults, found.nonfinite, found.broken) == (0, [], [], False)
    lengths = batch.lengths.tolist()
    assert found.length_min_median_max == (min(lengths), statistics.median(lengths), max(lengths))


@pytest.mark.parametrize("seed", range(30))
def test_numbers_against_naive_loops(seed: int) -> None:
    source = random_source(seed, n_episodes=7)
    tensors = source.tensors
    found = inspect(source)
    n_rows, n_columns = tensors["filled"].shape[:2]
    flags = {name: tensors[name][..., 0].tolist() for name in ("filled", "terminated", "truncated")}
    cells = padding = 0
    frames, steps = set(), set()
    for row in range(n_rows):
        filled, terminated, truncated = (flags[name][row] for name in flags)
        length = naive_length(filled, terminated, truncated)
        assert found.lengths[row] == length
        for t in range(n_columns):
            cells += 1
            if length > 0 and t <= length and filled[t]:
                frames.add((row, t))
            else:
                padding += 1
            if t < length:
                steps.add((row, t))
    assert found.padding_share == padding / cells
    cell_bytes = sum(t.numel() * t.element_size() for t in tensors.values()) // cells
    assert found.total_bytes == cells * cell_bytes
    assert found.padding_bytes == padding * cell_bytes
    nonfinite = {}
    for name in ("obs", "state", "reward"):
        wrong = [
            (row, t)
            for row in range(n_rows)
            for t in range(n_columns)
            if not all(math.isfinite(x) for x in tensors[name][row, t].flatten().tolist())
        ]
        real = [cell for cell in wrong if cell in (steps if name == "reward" else frames)]
        if wrong:
            nonfinite[name] = (len(real), len(wrong) - len(real), (real or wrong)[0])
    assert {f.field: (f.real, f.elsewhere, f.first) for f in found.nonfinite} == nonfinite
    assert found.broken == (bool(found.faults) or any(real for real, _, _ in nonfinite.values()))
    differences = explain_mask(tensors["filled"], tensors["terminated"]).differences
    assert found.differences == differences
    assert sum(found.reason_counts.values()) == len(differences)


def test_the_naive_loops_saw_every_kind_of_trouble() -> None:
    found = [inspect(random_source(seed, n_episodes=7)) for seed in range(30)]
    assert any(f.broken for f in found)
    assert any(not f.broken for f in found)
    assert any(field.real for f in found for field in f.nonfinite)
    assert any(field.elsewhere for f in found for field in f.nonfinite)
    assert {fault.rule for f in found for fault in f.faults} >= {"stale", "second", "gap", "outside"}


def test_every_pattern_has_the_steps_of_the_exact_mask() -> None:
    filled, terminated = all_patterns(5)
    found = inspect(source_of(filled=filled, terminated=terminated))
    assert found.lengths == found.explanation.exact.sum(1).tolist()
    assert found.terminated + found.truncated + found.empty == len(filled) == found.n_rows


def test_a_row_that_goes_on_after_a_cut_ends_before_it() -> None:
    flags = {"filled": bits("1111111"), "terminated": bits("0000000")}
    cut = inspect(source_of(**flags, truncated=bits("0010000")))
    assert (cut.lengths, cut.ends, cut.broken) == ([2], ["truncated"], True)
    assert [str(f.rule) for f in cut.faults] == ["second"]
    assert inspect(source_of(**flags)).lengths == [6]


@pytest.mark.parametrize(
    ("field", "row", "t", "real"),
    [
        ("obs", 0, 2, True),  # the final frame of a terminated episode: the network sees it
        ("obs", 0, 3, False),
        ("reward", 0, 1, True),
        ("reward", 0, 2, False),  # nobody acted on the final frame
        ("obs", 1, 4, True),
        ("reward", 1, 4, False),
        ("avail_actions", 1, 4, None),  # no floats, so nothing can be wrong
    ],
)
def test_what_counts_as_real(field: str, row: int, t: int, real: bool | None) -> None:
    padded = make_batch(make_spec(limit=4), [2, 4], [True, False]).to_padded(4)
    del padded["mask"]
    padded[field][row, t] = NAN if real is not None else True
    found = inspect(Source("x", "padded batch", padded))
    if real is None:
        assert found.nonfinite == []
    else:
        assert [(f.field, f.real, f.elsewhere, f.first) for f in found.nonfinite] == [
            (field, int(real), int(not real), (row, t))
        ]
    assert found.broken == bool(real)


def test_a_stored_step_field_is_not_real_on_a_final_frame() -> None:
    padded = make_batch(make_spec(limit=3, extra=True), [3], [False]).to_padded()
    del padded["mask"]
    padded["log_prob"][0, 3] = NAN
    source = Source("x", "replay", padded, frozenset({"actions", "reward", "log_prob"}))
    assert not inspect(source).broken
    assert inspect(replace(source, step_fields=frozenset({"actions", "reward"}))).broken


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64])
def test_nonfinite_in_any_kind_of_float(dtype: torch.dtype) -> None:
    field = torch.tensor([[[1.0], [INF], [0.0]]]).to(dtype)
    found = inspect(source_of(filled=bits("111"), terminated=bits("010"), field=field))
    assert [(f.real, f.elsewhere) for f in found.nonfinite] == [(1, 0)]


def test_json_is_json_and_complete() -> None:
    found = inspect(random_source(1))
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["lengths"] == found.lengths
    assert told["broken"] is found.broken
    assert [(d["row"], d["t"], d["reason"]) for d in told["differences_at"]] == [
        (d.row, d.t, d.reason) for d in found.differences
    ]
    assert [(f["row"], f["t"], f["rule"]) for f in told["faults_at"]] == [
        (f.row, f.t, f.rule) for f in found.faults
    ]


def test_page_data_is_what_the_page_wants() -> None:
    flags = {
        "filled": bits("11111", "11100", "00000", "11111"),
        "terminated": bits("01000", "00000", "00000", "00010"),
        "truncated": bits("00000", "01000", "00000", "00000"),
    }
    reward = torch.tensor([0.123456, 2.0, NAN, 0.0, 0.0]).expand(4, 5)[..., None].clone()
    reward[3, 1] = NAN
    actions = torch.arange(4 * 5 * 2).view(4, 5, 2, 1)
    source = source_of(**flags, reward=reward, actions=actions)
    found = inspect(source)
    page = page_data(source, found)
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    assert page == {
        "source": "batch.npz",
        "kind": "padded batch",
        "columns": 5,
        "truncated": 1,
        "rows": [
            {
                "filled": "11111",
                "terminated": "01000",
                "truncated": "00000",
                "length": 2,
                "end": "terminated",
                "fault": {"t": 3, "rule": "stale"},
            },
            {
                "filled": "11100",
                "terminated": "00000",
                "truncated": "01000",
                "length": 2,
                "end": "truncated",
                "fault": None,
            },
            {
                "filled": "00000",
                "terminated": "00000",
                "truncated": "00000",
                "length": 0,
                "end": "empty",
                "fault": {"t": 0, "rule": "empty"},
            },
            {
                "filled": "11111",
                "terminated": "00010",
                "truncated": "00000",
                "length": 4,
                "end": "terminated",
                "fault": None,
            },
        ],
        "reasons": REASONS,
        "rules": RULES,
        "summary": {
            "rows": 4,
            "columns": 5,
            "steps": 8,
            "terminated": 2,
            "truncated": 1,
            "empty": 1,
            "length_min": 2,
            "length_median": 2,
            "length_max": 4,
            "padding_share": 9 / 20,
            "padding_bytes": 9 * cell_bytes(source),
            "total_bytes": 20 * cell_bytes(source),
            "differences": {"stale": 1, "phantom": 1},
            "nonfinite": [{"field": "reward", "real": 2, "elsewhere": 3, "first": [3, 1]}],
            "actions": None,
            "faults": 2,
            "outcomes": {},
        },
        "values": {
            "reward": [
                [0.1235, 2, None, None, None],
                [0.1235, 2, None, None, None],
                [None] * 5,
                [0.1235, "nan", "nan", 0, None],
            ],
            "actions": [
                ["0 1", "2 3", None, None, None],
                ["10 11", "12 13", None, None, None],
                [None] * 5,
                ["30 31", "32 33", "34 35", "36 37", None],
            ],
        },
    }


def cell_bytes(source: Source) -> int:
    return sum(tensor[0, 0].numel() * tensor.element_size() for tensor in source.tensors.values())


def test_page_data_without_truncated_reward_or_actions() -> None:
    source = source_of(filled=bits("111"), terminated=bits("010"))
    page = page_data(source, inspect(source))
    assert page["rows"][0]["truncated"] is None
    assert page["values"] == {"reward": [[None] * 3], "actions": [[None] * 3]}


def test_page_data_of_a_reward_an_agent() -> None:
    reward = torch.tensor([[[0.5, 1.0], [NAN, 2.0], [0.0, 0.0]]])
    source = source_of(filled=bits("111"), terminated=bits("010"), reward=reward)
    values = page_data(source, inspect(source))["values"]
    assert values["reward"] == [["0.5 1", "nan 2", None]]


@pytest.mark.parametrize(("n_rows", "has_values"), [(64, 64), (65, 65), (9_000, 100_000 // 12)])
def test_the_page_has_the_values_of_as_many_rows_as_fit(n_rows: int, has_values: int) -> None:
    reward, actions = torch.ones(n_rows, 3, 1), torch.zeros(n_rows, 3, 2, 1, dtype=torch.int64)
    flags = {"filled": bits(*["111"] * n_rows), "terminated": bits(*["010"] * n_rows)}
    source = source_of(**flags, reward=reward, actions=actions)
    values = page_data(source, inspect(source))["values"]
    assert values["reward"] == [[1, 1, None]] * has_values
    assert values["actions"] == [["0 0", "0 0", None]] * has_values


def test_page_data_of_32_episodes_of_120_steps_and_8_agents_is_small() -> None:
    spec = make_spec(n_agents=8, n_actions=14, limit=120)
    padded = make_batch(spec, [120] * 32, [True] * 32).to_padded()
    del padded["mask"]
    source = Source("x", "padded batch", padded)
    page = page_data(source, inspect(source))
    assert page["values"] is not None
    assert len(json.dumps(page)) < 250_000


def test_the_table_holds_the_numbers_and_the_findings() -> None:
    flags = {
        "filled": bits("1111111", "1111100", "1111100", "1110000"),
        "terminated": bits("0001000", "0000000", "0001000", "0000000"),
    }
    obs = torch.zeros(4, 7, 3)
    obs[0, 6, 1] = NAN
    source = source_of(**flags, obs=obs)
    text = shown(source, inspect(source), width=300)
    for words in (
        "batch.npz (padded batch)",
        "(4, 7, 1): B = 4, T = 6",
        "14; an episode: min 2, median 4, max 4",
        "2 terminated, 2 truncated",
        "the shift mask counts 3 steps too many, in 3 rows",
        f"stale 1: {REASONS['stale']}",
        "row 0 step 5",
        f"phantom 2: {REASONS['phantom']}",
        "row 1 step 4; row 3 step 2",
        f"stale 1: {RULES['stale']}",
        "row 0 t 5",
        "obs: 0 on real frames, 1 elsewhere; first at row 0, t 6",
        "broken: rows that are not one episode",
    ):
        assert words in text, words
    assert all(len(line) <= 80 for line in shown(source, inspect(source)).splitlines())


@pytest.mark.parametrize(
    ("filled", "terminated", "obs", "verdict"),
    [
        ("1111", "0010", 0.0, "sound"),
        ("1110", "0000", 0.0, "sound, but the three lines are wrong on this batch; use step_mask"),
        ("1111", "0010", NAN, "broken: NaN or infinity on real steps"),
        ("1111", "0100", NAN, "broken: rows that are not one episode and NaN or infinity on real steps"),
        ("0000", "0000", 0.0, "broken: rows that are not one episode"),
    ],
)
def test_verdicts(filled: str, terminated: str, obs: float, verdict: str) -> None:
    source = source_of(filled=bits(filled), terminated=bits(terminated), obs=torch.full((1, 4, 1), obs))
    found = inspect(source)
    assert shown(source, found, width=120).splitlines()[-1].rstrip() == f"verdict     {verdict}"
    assert found.broken == verdict.startswith("broken")


def test_many_rows_are_not_all_listed() -> None:
    source = source_of(filled=bits(*["111"] * 9), terminated=bits(*["100"] * 9))
    text = shown(source, inspect(source), width=120)
    assert "row 0 t 2; row 1 t 2; row 2 t 2; row 3 t 2; and 5 rows more" in text


@pytest.mark.parametrize("seed", range(10))
def test_the_histogram_counts_every_episode_once(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 3 + 12 * seed, (40,), generator=generator).tolist()
    lines = histogram(lengths, ascii_only=True).plain.splitlines()
    assert len(lines) <= 8
    for line in lines:
        ends, *_, count = line.split()
        first, last = (ends if "-" in ends else f"{ends}-{ends}").split("-")
        assert sum(int(first) <= length <= int(last) for length in lengths) == int(count)
    assert sum(int(line.split()[-1]) for line in lines) == sum(length > 0 for length in lengths)


def test_the_histogram_draws_in_block_characters_or_in_ascii() -> None:
    assert histogram([3, 3, 3, 4]).plain == f"3 {'█' * 32} 3\n4 {'█' * 10}▋ 1"
    assert histogram([3, 3, 3, 4], ascii_only=True).plain == f"3 {'#' * 32} 3\n4 {'#' * 11} 1"
    assert histogram([1, *[2] * 1000]).plain.splitlines()[0] == "1 ▏ 1"
    source = source_of(filled=bits("111"), terminated=bits("010"))
    assert shown(source, inspect(source), ascii_only=True).isascii()
