from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from endmark.episodes.masks import REASONS
from endmark.inspect.explain import Explanation, explain, explain_bits, explain_row, ranges
from endmark.inspect.explain_text import explanation_text
from endmark.inspect.source import Source
from support.helpers import all_patterns, bits

# filled, terminated, shift mask, exact mask, {step: reason}, words of notes: DESIGN section 3
REFUSED = "EpisodeBatch.from_padded refuses this row: "
IN_PLACE = "line 3 writes in place"
TABLE: dict[str, tuple[str, str, str, str, dict[int, str], list[str]]] = {
    "filled to the brim after the end": (
        "1111111",
        "0001000",
        "111101",
        "111100",
        {5: "stale"},
        [IN_PLACE, REFUSED + "t 5: filled after the end of the episode (stale)"],
    ),
    "PyMARL layout, ended at step 3": ("1111100", "0001000", "111100", "111100", {}, [IN_PLACE]),
    "truncated after 4 steps": ("1111100", "0000000", "111110", "111100", {4: "phantom"}, []),
    "final frame not stored": (
        "1111000",
        "0001000",
        "111100",
        "111100",
        {},
        ["no final frame stored: step 3 terminated"],
    ),
    "full length, truncated at the limit": ("1111111", "0000000", "111111", "111111", {}, []),
    "full length, terminated at the last step": ("1111111", "0000010", "111111", "111111", {}, []),
    "nothing filled": (
        "0000000",
        "0000000",
        "000000",
        "000000",
        {},
        [REFUSED + "t 0: the row holds no step: nothing is filled, or a first frame alone (empty)."],
    ),
    "two episodes in one row": (
        "1111111",
        "0010010",
        "111011",
        "111000",
        {4: "second", 5: "second"},
        [IN_PLACE, REFUSED + "t 4: the row goes on after the episode's end with another one (second)"],
    ),
    "a hole": (
        "1101110",
        "0000000",
        "110111",
        "100000",
        {1: "phantom", 3: "gap", 4: "gap", 5: "gap"},
        [REFUSED + "t 3: filled, though an earlier frame of the row is not (gap)"],
    ),
}


def as_bits(values: list[int]) -> str:
    return "".join(map(str, values))


def words_of(explanation: Explanation, width: int = 80) -> str:
    """The text with its line breaks taken out."""
    return " ".join(explanation_text(explanation, width).plain.split())


@pytest.mark.parametrize("case", TABLE)
def test_worked_table(case: str) -> None:
    filled, terminated, shift, exact, reasons, notes = TABLE[case]
    found = explain_bits(filled, terminated)
    assert [as_bits(values.values) for values in found.inputs] == [filled, terminated]
    assert (as_bits(found.shift.values), as_bits(found.exact.values)) == (shift, exact)
    assert {difference.t: difference.reason for difference in found.differences} == reasons
    assert len(found.notes) == len(notes)
    for note, words in zip(found.notes, notes, strict=True):
        assert words in note


@pytest.mark.parametrize("case", TABLE)
def test_the_text_says_why(case: str) -> None:
    filled, terminated, shift, exact, reasons, notes = TABLE[case]
    text = words_of(explain_bits(filled, terminated))
    for reason in set(reasons.values()):
        assert REASONS[reason] in text  # type: ignore[index]
    assert ("The two masks agree on this row." in text) == (not reasons)
    for words in [f"shift mask {shift} (1, 6, 1)", f"exact mask {exact} (1, 6, 1)", *notes]:
        assert words in text
    assert "(B, T+1, 1) -> (B, T, 1): (1, 7, 1) -> (1, 6, 1)" in text
    assert "(B, T, 1) -> (B, T-1, 1): (1, 6, 1) -> (1, 5, 1)" in text


def test_the_text_of_one_row_whole() -> None:
    text = explanation_text(explain_bits("1111111", "0001000")).plain
    assert text == WHOLE.strip("\n")


WHOLE = """
one row, B = 1, T+1 = 7

                       t  0123456
   filled                 1111111  (1, 7, 1)
   terminated             0001000  (1, 7, 1)

1  terminated = batch["terminated"][:, :-1].float()
   (B, T+1, 1) -> (B, T, 1): (1, 7, 1) -> (1, 6, 1). The last column goes: no
   step begins at the last frame.
                       t  012345
   terminated             000100  (1, 6, 1)

2  mask = batch["filled"][:, :-1].float()
   (B, T+1, 1) -> (B, T, 1): (1, 7, 1) -> (1, 6, 1). One entry a step, 1 if the
   frame that it begins at holds data.
                       t  012345
   mask                   111111  (1, 6, 1)

3  mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])
   (B, T, 1) -> (B, T-1, 1): (1, 6, 1) -> (1, 5, 1). The shift: step t is
   cleared if step t-1 terminated, and no later one. Here it clears step 4.
                       t  012345
   mask[:, 1:]             11111  (1, 5, 1)
   1 - terminated[:, :-1]  11101  (1, 5, 1)
   their product           11101  (1, 5, 1)
   mask                   111101  (1, 6, 1)

=  both masks, (B, T, 1)
                       t  012345
   shift mask             111101  (1, 6, 1)
   exact mask             111100  (1, 6, 1)
                               ^

step 5, stale: the episode ended earlier, but the frame is marked filled; the
  shift hides only one step
note: line 3 writes in place. If batch["filled"] is float32 already, line 2
  copies nothing and line 3 overwrites the batch: filled at t 4 becomes 0.
note: EpisodeBatch.from_padded refuses this row: t 5: filled after the end of
  the episode (stale). With on_error='repair' it keeps the first 4 steps.
"""


def run_the_lines(batch: dict[str, Tensor]) -> list[Tensor]:
    """The three lines to the letter, and what they make on the way."""
    terminated = batch["terminated"][:, :-1].float()
    mask = batch["filled"][:, :-1].float()
    first_mask = mask.clone()
    keep = 1 - terminated[:, :-1]
    product = mask[:, 1:] * keep
    mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])
    return [terminated, first_mask, first_mask[:, 1:], keep, product, mask]


@pytest.mark.parametrize("n_columns", [2, 3, 4])
def test_what_is_shown_is_what_the_lines_compute_on_every_pattern(n_columns: int) -> None:
    filled, terminated = all_patterns(n_columns)
    source = Source("x", "padded batch", {"filled": filled, "terminated": terminated})
    computed = run_the_lines({"filled": filled.clone(), "terminated": terminated.clone()})
    for row in range(len(filled)):
        found = explain_row(source, row)
        shown = [values for line in found.lines for values in line.tensors]
        assert len(shown) == len(computed)
        for values, tensor in zip(shown, computed, strict=True):
            assert values.values == tensor[row, :, 0].tolist()
            assert values.shape == tuple(tensor.shape)
            assert values.first_column == n_columns - 1 - tensor.shape[1]


def test_the_note_on_overwriting_tells_what_happens() -> None:
    filled, terminated = all_patterns(4)
    source = Source("x", "padded batch", {"filled": filled.float(), "terminated": terminated})
    for row in range(len(filled)):
        batch = {"filled": filled[row : row + 1].float(), "terminated": terminated[row : row + 1]}
        run_the_lines(batch)
        lost = (batch["filled"] != filled[row])[0, :, 0].nonzero()[:, 0].tolist()
        notes = [note for note in explain_row(source, row).notes if "in place" in note]
        expected = (
            'As batch["filled"] is float32 already, line 2 copies nothing and line 3 overwrites the batch: '
            f"filled at t {ranges(lost)} becomes 0."
        )
        assert [note.endswith(expected) for note in notes] == ([True] if lost else [])


def test_no_note_on_overwriting_where_the_dtype_is_another() -> None:
    source = Source("x", "padded batch", {"filled": bits("111"), "terminated": bits("100")})
    assert not any("in place" in note for note in explain_row(source, 0).notes)


def test_one_step() -> None:
    found = explain_bits("11", "00")
    assert [as_bits(values.values) for values in found.lines[2].tensors] == ["", "", "", "1"]
    text = explanation_text(found).plain
    assert "(1, 1, 1) -> (1, 0, 1)" in text
    assert "The two masks agree on this row." in text


def test_long_episodes_wrap_in_blocks_with_column_numbers() -> None:
    filled, terminated = "1" * 70 + "0" * 51, "0" * 60 + "1" + "0" * 60
    text = explanation_text(explain_bits(filled, terminated)).plain
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    both = lines[lines.index("=  both masks, (B, T, 1)") :]
    rulers = [i for i, line in enumerate(both) if line.split()[:1] == ["t"]]
    assert [both[i].split()[1:] for i in rulers] == [
        ["0", "10", "20", "30"],
        ["40", "50", "60", "70"],
        ["80", "90", "100", "110"],
    ]
    shift = "".join(both[i + 1].split()[2] for i in rulers)
    exact = "".join(both[i + 2].split()[2] for i in rulers)
    assert (shift, exact) == ("1" * 61 + "0" + "1" * 8 + "0" * 50, "1" * 61 + "0" * 59)
    marks = next(line for line in both if "^" in line)
    assert [i - 26 + 40 for i, mark in enumerate(marks) if mark == "^"] == list(range(62, 70))
    assert "steps 62 to 69, stale: " in text


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
@pytest.mark.parametrize("n_rows", [1, 32, 5000])
def test_no_line_is_wider_than_it_may_be(width: int, n_rows: int) -> None:
    flags = {"filled": torch.ones(n_rows, 121, 1), "terminated": torch.zeros(n_rows, 121, 1)}
    flags["terminated"][:, 3] = 1
    text = explanation_text(explain_row(Source("x", "padded batch", flags), 0), width).plain
    assert max(map(len, text.splitlines())) <= max(60, min(width, 100))


def test_colour_is_only_where_the_terminal_can() -> None:
    text = explanation_text(explain_bits("1111111", "0001000"))
    plain, coloured = Console(color_system=None), Console(color_system="standard", force_terminal=True)
    with plain.capture() as without:
        plain.print(text, soft_wrap=True)
    with coloured.capture() as with_colour:
        coloured.print(text, soft_wrap=True)
    assert without.get() == text.plain + "\n"
    assert "\x1b[1;31m" in with_colour.get()


def test_json_is_complete() -> None:
    told = json.loads(json.dumps(explain_bits("1111111", "0001000").to_json()))
    assert [values["values"] for values in told["inputs"]] == [[1] * 7, [0, 0, 0, 1, 0, 0, 0]]
    assert [line["code"] for line in told["lines"]] == [
        'terminated = batch["terminated"][:, :-1].float()',
        'mask = batch["filled"][:, :-1].float()',
        "mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])",
    ]
    assert told["shift_mask"]["values"] == [1, 1, 1, 1, 0, 1]
    assert told["exact_mask"] == {
        "name": "exact mask",
        "shape": [1, 6, 1],
        "values": [1, 1, 1, 1, 0, 0],
        "first_column": 0,
    }
    assert told["differences"] == [{"t": 5, "reason": "stale", "words": REASONS["stale"]}]


def test_a_row_of_a_batch() -> None:
    flags = {
        "filled": bits("1111", "1111"),
        "terminated": bits("0000", "0000"),
        "truncated": bits("0000", "0100"),
    }
    source = Source("batch.npz", "padded batch", flags)
    assert explain_row(source, 0).notes == []
    found = explain_row(source, 1)
    assert found.title == "row 1 of batch.npz, B = 2, T+1 = 4"
    assert found.shift.shape == (2, 3, 1)
    assert found.notes == [
        "EpisodeBatch.from_padded refuses this row: t 1: the row goes on after the episode's end with "
        "another one (second). With on_error='repair' it keeps the first step."
    ]


@pytest.mark.parametrize("row", [-1, 2])
def test_no_such_row(row: int) -> None:
    source = Source("x.pt", "padded batch", {"filled": bits("11", "11"), "terminated": bits("00", "00")})
    with pytest.raises(ValueError, match=rf"episode: given {row}, want 0 to 1: x.pt has 2 rows"):
        explain_row(source, row)


@pytest.mark.parametrize(
    ("filled", "terminated", "message"),
    [
        ("", "", "filled: given nothing, want 0s and 1s, one a frame, such as 1111100"),
        ("111", "", "terminated: given nothing, want 0s and 1s"),
        ("1121", "0000", "filled: given '2' at t 2, want only 0 and 1"),
        ("1111", "00x0", "terminated: given 'x' at t 2, want only 0 and 1"),
        ("1 1", "000", "filled: given ' ' at t 1, want only 0 and 1"),
        ("11１", "000", "filled: given '１' at t 2, want only 0 and 1"),  # noqa: RUF001
        ("1111", "000", "filled has 4 columns, terminated 3; want as many, one a frame"),
        ("1", "0", "filled: given one frame and so no step, want at least two columns"),
    ],
)
def test_what_is_no_row_of_flags(filled: str, terminated: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        explain_bits(filled, terminated)
    assert str(refused.value).startswith(message)


def test_what_to_explain_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="want --filled and --terminated"):
        explain("111", None, None, 0)
    with pytest.raises(ValueError, match="want --filled and --terminated"):
        explain(None, None, None, 0)
    with pytest.raises(ValueError, match="given --file and flags; want either"):
        explain("111", None, tmp_path / "batch.npz", 0)
    assert as_bits(explain("111", "010", None, 0).exact.values) == "11"


@pytest.mark.parametrize(
    ("times", "words"),
    [([], ""), ([3], "3"), ([3, 4], "3, 4"), ([3, 4, 5], "3 to 5"), ([0, 2, 3, 4, 9], "0, 2 to 4, 9")],
)
def test_ranges(times: list[int], words: str) -> None:
    assert ranges(times) == words
