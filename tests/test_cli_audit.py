"""`endmark audit`: 0 clean, 1 leaks, 2 could not run, with one line that says why."""

import json
from pathlib import Path

import pytest

from endmark.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
LEAKS = f"{EXAMPLES}/audit_token_loss.py:case"
CLEAN = f"{EXAMPLES}/audit_token_loss.py:repaired"


def status(*args: str) -> int:
    try:
        main(["audit", *args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_leak_is_status_1_and_a_clean_report_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(LEAKS) == 1
    assert "leak [weight] the denominator counts positions that are no steps" in capsys.readouterr().out
    assert status(CLEAN, "--quick") == 0
    assert "No leak found on this batch. That is a test, not a proof." in capsys.readouterr().out


def test_json_holds_the_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(LEAKS, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["clean"] is False
    assert report["findings"][0]["probe"] == "weight"
    assert report["findings"][0]["severity"] == "leak"


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert status(LEAKS, "--html", str(page)) == 1
    text = page.read_text("utf-8")
    assert "the denominator counts positions that are no steps" in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text


BAD = """
import torch
from torch import nn
from endmark.audit import Case
net = nn.Linear(1, 1)
flags = {"filled": torch.ones(2, 3, 1), "terminated": torch.zeros(2, 3, 1)}
fields = {"obs": torch.randn(2, 3, 1), "reward": torch.randn(2, 3, 1)}
def vector(): return Case(lambda b: net(b["obs"])[..., 0], {**flags, **fields}, net)
def no_gradient(): return Case(lambda b: b["obs"].mean(), {**flags, **fields}, net)
def no_masks(): return Case(lambda b: net(b["obs"]).mean(), fields, net)
def crash(): return Case(lambda b: net(b["nothing"]).mean(), {**flags, **fields}, net)
def no_case(): return 3
def fails(): raise RuntimeError("not today")
unseeded = torch.Generator()
def random(): return Case(lambda b: net(b["obs"])[:, 0].mean() + torch.randn((), generator=unseeded),
                          {**flags, **fields}, net)
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("vector", "'loss' has shape (2, 3): want a scalar"),
        ("no_gradient", "the loss has no gradient"),
        ("no_masks", "the batch has no 'filled'"),
        ("crash", "the loss fails on the batch as it is: KeyError"),
        ("no_case", "returned int: want a Case"),
        ("fails", "fails: RuntimeError: not today"),
        ("nowhere", "has no function 'nowhere'"),
    ],
)
def test_what_cannot_be_audited_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], function: str, words: str
) -> None:
    module = tmp_path / "bad_cases.py"
    module.write_text(BAD)
    assert status(f"{module}:{function}") == 2
    seen = capsys.readouterr()
    assert words in seen.err
    assert seen.err.count("\n") == 1
    assert seen.out == ""


@pytest.mark.parametrize("target", ["nothing", "no_such_module:f", "no/such/file.py:f", ":f", "json:"])
def test_a_target_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str], target: str) -> None:
    assert status(target) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_random_results_are_a_finding_that_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "bad_cases.py"
    module.write_text(BAD)
    assert status(f"{module}:random") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "another result the second time" in out
    assert "seed what is random inside the loss" in out
