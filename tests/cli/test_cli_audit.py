"""`endmark audit`: what it prints, its exit status, and its page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import pytest

from endmark.audit import Finding, Report, report_html
from endmark.audit.compare import Change
from endmark.audit.findings import Reproducer
from endmark.cli import main

CASES = """
import torch
from torch import nn
from functools import partial
from endmark.audit import Case, Report, audit, audit_learner, hard_batch
from endmark.episodes import EpisodeSpec, step_mask

asked = []


def case(right=True):
    torch.manual_seed(0)
    net = nn.Linear(3, 1)

    def loss(batch):
        asked.append(1)
        mask = step_mask(batch["filled"], batch["terminated"])
        errors = torch.where(mask, net(batch["obs"][:, :-1, 0]) - batch["reward"][:, :-1], 0.0).square()
        return errors.sum() / mask.sum().clamp(min=1) if right else errors.mean()

    batch = hard_batch(EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=6, obs_shape=(3,)), 0)
    return Case(loss, batch, net, bootstraps=False)


def wrong():
    return case(right=False)


def report():
    return audit(wrong())


def ready():
    return partial(audit, wrong())


def vector():
    given = case()
    return Case(lambda batch: given.loss(batch).expand(2), given.batch, given.modules)


def nothing():
    return None


def fails():
    raise KeyError("no data\\nhere")


def broken_audit():
    def run(**options):
        raise RuntimeError("out of memory")
    return run


def no_report():
    return lambda **options: 3


number = 3
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of cases, to be found from where the program is called."""
    (tmp_path / "my_cases.py").write_text(CASES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    sys.modules.pop("my_cases", None)
    return "my_cases.py"


def status(*args: str | Path) -> int:
    try:
        main(["audit", *map(str, args)])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else -1
    return 0


def refusal(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    assert status(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1
    return err


def test_clean(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(f"{target}:case") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "No leak found on this batch. That is a test, not a proof." in out
    assert "not run: causality: the loss returns no 'per_step' terms" in out
    assert "an agent that left while others went on" in out  # one agent cannot


@pytest.mark.parametrize("function", ["wrong", "report", "ready"])
def test_leaks(target: str, capsys: pytest.CaptureFixture[str], function: str) -> None:
    assert status(f"{target}:{function}") == 1
    out, _ = capsys.readouterr()
    assert re.search(r"^leak \[padding\] 1 more column", out, re.MULTILINE)
    assert "repair: loss = torch.where(mask, x, 0).sum() / mask.sum()" in out
    assert re.search(r"^\d leaks? found\.", out, re.MULTILINE)


def test_a_module_is_found_where_the_program_is_called(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("my_cases:wrong") == 1
    assert status("my_cases:case", "--quick") == 0
    assert str(Path.cwd()) not in sys.path
    capsys.readouterr()


LATE = """
import sys
from pathlib import Path

import beside

sys.path.insert(0, str(Path(__file__).parent / "lazily"))
HOW


def case():
    from my_cases import case
    from twice import PLACE
    assert PLACE == "lazily"
    given = case()

    def loss(batch):
        import imported_late, within
        return given.loss(batch) * imported_late.ONE * within.ONE

    return type(given)(loss, given.batch, given.modules, bootstraps=False)
"""


@pytest.mark.parametrize(
    "how",
    [
        "",
        "sys.path.remove(str(Path(__file__).parent))",
        "sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]",
        "sys.path.append(str(Path(__file__).parent))",
    ],
)
def test_a_file_finds_its_own_folder_as_long_as_it_runs(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """From whatever directory the program is called, and whatever the file does to the path meanwhile."""
    folder = tmp_path / "elsewhere"
    (folder / "lazily").mkdir(parents=True)
    names = {"my_cases": CASES, "late": LATE.replace("HOW", how), "beside": "", "imported_late": "ONE = 1\n"}
    names |= {
        "lazily/within": "ONE = 1\n",
        "twice": "PLACE = 'beside'\n",
        "lazily/twice": "PLACE = 'lazily'\n",
    }
    for name, text in names.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        sys.modules.pop(Path(name).name, None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = [*sys.path]
    assert status(f"{folder}/late.py:case", "--quick") == 0
    added = [entry for entry in sys.path if entry not in before]
    assert added == [*([str(folder)] if "append" in how else []), str(folder / "lazily")][::-1]
    capsys.readouterr()


def test_json(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(f"{target}:wrong", "--json") == 1
    out, err = capsys.readouterr()
    assert err == ""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    given = json.loads(out, parse_constant=refuse)
    assert given["clean"] is False
    assert {finding["severity"] for finding in given["findings"]} >= {"leak"}
    finding = next(finding for finding in given["findings"] if finding["probe"] == "padding")
    assert finding["moved"]["loss"] > 0
    assert len(finding["reproducer"]["episodes"]) >= 1
    assert finding["reproducer"]["cells"] == []
    assert given["skipped"]["causality"].startswith("the loss returns no")
    assert status(f"{target}:case", "--json") == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    finding = Finding("poison", "fragile", "x", moved=(Change("loss", float("inf")), Change("y", 0.5)))
    assert finding.to_json()["moved"] == {"loss": None, "y": 0.5}


@pytest.mark.parametrize("function", ["wrong", "ready"])
def test_quick_asks_less(target: str, capsys: pytest.CaptureFixture[str], function: str) -> None:
    asked = []
    for options in ([], ["--quick"]):
        sys.modules.pop("my_cases", None)
        assert status(f"{target}:{function}", *options) == 1
        asked.append(len(sys.modules["my_cases"].asked))
    assert asked[1] < 0.7 * asked[0]
    capsys.readouterr()


def test_the_seed_is_that_of_the_disturbances(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for seed in ("0", "0", "1"):
        assert status(f"{target}:wrong", "--json", "--seed", seed) == 1
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert all(f["reproducer"]["seed"] == 1 for f in json.loads(printed[2])["findings"] if f["reproducer"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (":vector", "'loss' has shape (2,): want a scalar; reduce it, as training does"),
        (":nothing", "returned NoneType: want a Case, or partial(audit_learner, ...)"),
        (":fails", "fails: KeyError: 'no data\\nhere' (my_cases.py, line"),
        (":broken_audit", "fails: RuntimeError: out of memory (my_cases.py, line"),
        (":no_report", "returned a function that gives int: want a Report"),
        (":missing", "has no function 'missing'"),
        (":number", "has no function 'number'"),
        ("", "want module:function or file.py:function"),
        (":", "want module:function or file.py:function"),
    ],
)
def test_what_cannot_be_run(
    target: str, capsys: pytest.CaptureFixture[str], function: str, words: str
) -> None:
    assert words in refusal(capsys, target + function)


def test_targets_that_are_not_there(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'nowhere.py': no such file" in refusal(capsys, "nowhere.py:case")
    assert "'no_module' cannot be imported: ModuleNotFoundError" in refusal(capsys, "no_module:case")
    (tmp_path / "broken.py").write_text("x = 1 +\n")
    assert "'broken.py' cannot be run: SyntaxError" in refusal(capsys, "broken.py:case")
    page = tmp_path / "no" / "page.html"
    assert "No such file or directory" in refusal(capsys, f"{target}:case", "--html", page)


def test_as_a_program(target: str) -> None:
    """Exit statuses as a shell sees them, and nothing but the report on the standard output."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.run(
            [sys.executable, "-m", "endmark", "audit", f"{target}:{function}", "--quick", "--json"],
            capture_output=True,
            text=True,
            check=False,
            env=env,
        )
        for function in ("case", "wrong", "fails")
    ]
    assert [run.returncode for run in runs] == [0, 1, 2]
    assert [run.stderr.count("\n") for run in runs] == [0, 0, 1]
    assert json.loads(runs[1].stdout)["clean"] is False
    assert runs[2].stdout == ""


# --- the page ---


class Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.tags = "", [("", dict[str, str | None]())]
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;\"'"


def evil_report() -> Report:
    """Foreign text wherever there may be any."""
    finding = Finding(
        "poison",
        "leak",
        f"'{EVIL}' in padding matters",
        EVIL,
        ((0, 1), (2, 3)),
        (Change(EVIL, 0.5), Change("it fails: " + EVIL, float("inf"))),
        (f"a cause {EVIL}",),
        f"x = {EVIL}",
        Reproducer(0, (0,), ((0, 1),), (EVIL,)),
    )
    mild = [Finding("company", "coupling", "shared"), Finding("weight", "weighting", "short"),
            Finding("empty", "fragile", "0 / 0")]  # fmt: skip
    return Report((finding, *mild), ("poison", "empty"), {"empty": EVIL}, ("a case",), (EVIL,))


def test_the_page_is_self_contained_and_escapes_foreign_text(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    assert status(f"{target}:wrong", "--html", path) == 1
    capsys.readouterr()
    page = path.read_text(encoding="utf-8")
    text = Text(page)
    assert "leaks found." in text.words or "leak found." in text.words
    assert "more column" in text.words
    for html in (page, report_html(evil_report(), EVIL)):
        text = Text(html)
        assert {tag for tag, _ in text.tags} & {"script", "img", "link", "iframe"} == set()
        assert not any({"src", "href", "srcset"} & attrs.keys() for _, attrs in text.tags)
        assert "url(" not in html
        assert "default-src 'none'" in html
    assert text.words.count(EVIL) >= 8
    clean = report_html(Report((), ("purity",)), "x")
    assert "No leak found on this batch." in Text(clean).words


def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    """Nothing on the console, no request, light and dark, and no scrolling sideways on a telephone."""
    path = tmp_path / "page.html"
    path.write_text(report_html(evil_report(), EVIL), encoding="utf-8")
    said: list[str] = []
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 375, "height": 800})
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        assert page.locator("article").count() == 4
        assert page.locator("h1").text_content() == EVIL
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        context.close()
    assert said == []
    assert colours["light"] != colours["dark"]
