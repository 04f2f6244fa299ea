"""A short `make fuzz`, and that it sees what it is there to see."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.fuzz_files import Reader
from torch import Tensor

from benchmarks import fuzz, fuzz_batches, naive
from endmark.episodes import padded, step_mask
from endmark.episodes.files import FileError

# torch says so of tensors that a damaged file must hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*(quantized tensor|nested tensors|quantize_per_tensor)")


@pytest.mark.parametrize("chunk", range(4))
def test_random_padded_batches(chunk: int) -> None:
    done = fuzz.batches(seed=11, chunk=chunk, n=100)
    assert (done.tried, done.failures) == (100, [])


def test_damaged_files() -> None:
    done = fuzz.files(seed=11, chunk=0, n=240)
    assert (done.tried, done.failures) == (240, [])


def test_the_cases_show_every_rule_and_every_difference() -> None:
    rules, reasons = set(), set()
    for chunk in range(20):
        for case in fuzz_batches.cases(3, chunk, 40):
            none = [[0] * case.flags["filled"].shape[1]] * len(case.flags["filled"])
            cuts = case.flags["truncated"].tolist() if "truncated" in case.flags else none
            flags = case.flags["filled"].tolist(), case.flags["terminated"].tolist()
            for filled, terminated, truncated in zip(*flags, cuts, strict=True):
                fault = naive.read_row(filled, terminated, truncated).fault
                rules |= {None if fault is None else fault[1]}
                reasons |= {reason for _, reason in naive.differences(filled, terminated)}
    assert rules == {None, *padded.RULES}
    assert reasons == {"stale", "second", "phantom", "gap"}


def shifted(filled: Tensor, terminated: Tensor) -> Tensor:
    """The usual three lines in place of the exact rule."""
    ends = terminated[:, :-1] != 0
    mask = filled[:, :-1] != 0
    return mask & ~torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1)


def without_the_last_column(filled: Tensor, terminated: Tensor) -> Tensor:
    """The last step of a full row is forgotten."""
    mask = step_mask(filled, terminated).clone()
    mask[:, -1] = False
    return mask


@pytest.mark.parametrize("wrong", [shifted, without_the_last_column])
@pytest.mark.parametrize("where", [padded, fuzz_batches])
def test_a_wrong_rule_is_seen(
    where: Any, wrong: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, "step_mask", wrong)
    failures = fuzz.batches(seed=11, chunk=0, n=100).failures
    assert len(failures) > 10
    assert failures[0].startswith("seed 11, chunk 0, batch ")


def test_an_input_that_is_written_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(filled: Any, terminated: Any) -> Tensor:
        mask = step_mask(filled, terminated)
        if isinstance(filled, Tensor) and filled.dtype == torch.float32:
            filled[0, 0] = 1 - filled[0, 0]
            filled[0, -1] = 1 - filled[0, -1]
        return mask

    monkeypatch.setattr(fuzz_batches, "step_mask", in_place)
    failures = fuzz.batches(seed=11, chunk=0, n=100).failures
    assert any(fuzz.CHANGED in failure for failure in failures)


def raises(path: Path) -> None:
    raise KeyError("filled")


def warns(path: Path) -> None:
    warnings.warn("something is odd", stacklevel=2)


def writes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!!")


def leaves(path: Path) -> None:
    path.with_name(f"{path.name}.left").touch()


def fills(path: Path) -> None:
    torch.ones(100 * 2**20)


def talks(path: Path) -> None:
    raise FileError(f"{path}: one line\nand another")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (raises, "KeyError: 'filled'"),
        (warns, "UserWarning: something is odd"),
        (writes, fuzz.CHANGED),
        (leaves, fuzz.CHANGED),
        (fills, "MiB of memory"),
        (talks, "FileError of several lines or without a path"),
    ],
)
def test_a_reader_that_does_anything_else_is_seen(read: Callable[[Path], None], words: str) -> None:
    def replaced(readers: list[Reader]) -> list[Reader]:
        return [reader._replace(read=read) for reader in readers[:1]]

    (failure,) = fuzz.files(seed=1, chunk=0, n=1, replace=replaced).failures
    assert failure.startswith("seed 1, chunk 0, file 0, npz: ")
    assert words in failure


@pytest.mark.parametrize("failures", [[], ["seed 0, chunk 0, file 7, npz: KeyError"], [fuzz.CHANGED]])
def test_the_figures_and_the_exit_status(
    failures: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "--batches", "1000", "--files", "480"])
    monkeypatch.setattr("multiprocessing.get_context", lambda _: SimpleNamespace(Pool=nullcontext))
    monkeypatch.setattr(fuzz, "fuzz", lambda what, *_: failures if "files" in what else [])
    with pytest.raises(SystemExit) as left:
        fuzz.main()
    assert left.value.code == bool(failures)
    changed = failures.count(fuzz.CHANGED)
    assert capsys.readouterr().out == (
        f"1,000 padded batches: 0 wrong; 480 damaged files: {len(failures)} tracebacks; "
        f"{changed} inputs changed (seed 0)\n"
    )
