"""`endmark audit --static`: hints from source that is not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endmark.audit import PROBES, AuditError, scan
from endmark.audit.patterns import PATTERNS
from endmark.audit.static import LARGEST, hints_in
from endmark.cli import main

SUSPICIOUS = {
    "masked mean": [
        "loss = (td_error * mask).mean()",
        "loss = torch.mean(mask * td_error)",
        "loss = ((q - target) ** 2 * batch['filled']).mean()",
        "def f(self):\n    return (self.td * self.mask[:, :-1]).mean(dim=1)",
    ],
    "statistic before mask": [
        "advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5) * mask",
        "def f(x, mask):\n    x = (x - x.mean()) / x.std()\n    return (x * mask).sum() / mask.sum()",
        "def f(r, filled):\n    r = (r - np.mean(r)) / np.std(r)\n    return r[filled]",
    ],
    "1 - terminated": [
        "mask = 1 - terminated",
        "mask = (1.0 - batch['terminated'].float())[:, :-1]",
        "masks = ~dones",
        "loss = (td_error * (1 - done)).sum()",
    ],
    "ends merged": [
        "done = terminated or truncated",
        "done = terminated | truncated",
        "done = np.logical_or(terminations, truncations)",
        "done = any((terminated, x)) or info['truncated'] or ts.terminal",
    ],
    "in place": [
        "mask = batch['filled'][:, :-1].float()\nmask[:, 1:] = mask[:, 1:] * (1 - ended[:, :-1])",
        "filled *= alive",
        "batch['filled'][:, 1:] *= alive",
        "mask = filled[:, :-1]\nmask.mul_(alive)",
    ],
}
INNOCENT = [
    "loss = (td_error * mask).sum() / mask.sum()",
    "loss = td_error[mask].mean()",
    "x = (x - x[mask].mean()) / x[mask].std()",
    "def f(x):\n    return (x - x.mean()) / x.std()",  # no mask anywhere
    "def f(x):\n    x = (x - x.mean()) / x.std()\n    return x\ndef g(mask):\n    return mask",
    "target = reward + gamma * (1 - terminated) * value",
    "def f(filled, terminated):\n    mask = filled[:, :-1] * (1 - terminated)\n    return mask",
    "done = terminated or stopped",
    "terminated, truncated = flags['terminated'], flags['truncated']",
    "ended = ~(terminated & truncated)",
    "mask = batch['filled'][:, :-1].float().clone()\nmask[:, 1:] = 0 * mask[:, 1:]",
    "batch['filled'][rows] = 1",  # how a batch is filled
    "mask = filled[:, 1:] & filled[:, :-1]\nmask[:, 0] = other",
]


@pytest.mark.parametrize(("name", "source"), [(name, s) for name, some in SUSPICIOUS.items() for s in some])
def test_suspicious_lines(name: str, source: str) -> None:
    assert name in [hint.pattern for hint in hints_in("x.py", source.encode())]


@pytest.mark.parametrize("source", INNOCENT)
def test_innocent_lines(source: str) -> None:
    assert hints_in("x.py", source.encode()) == []


def test_every_pattern_has_examples_and_a_probe() -> None:
    assert [pattern.name for pattern in PATTERNS] == [*SUSPICIOUS]
    assert {pattern.probe for pattern in PATTERNS} <= {*PROBES}


def test_a_hint_says_where() -> None:
    (hint,) = hints_in("a/b.py", b"x = 1\n\n\nloss = (  # all cells\n    td * mask\n).mean()\n")
    assert (hint.path, hint.line, hint.code, hint.probe) == ("a/b.py", 4, "loss = (  # all cells", "padding")
    assert hint.question.endswith("?")


def test_a_tree(tmp_path: Path) -> None:
    """Files that cannot be parsed are told; large files and links are left alone; nothing is run."""
    (tmp_path / "inner").mkdir()
    (tmp_path / ".venv").mkdir()
    bad = "raise SystemExit(3)\nloss = (td * mask).mean()\n"
    for name in ("inner/b.py", "a.py", ".venv/c.py", "no_python.txt"):
        (tmp_path / name).write_text(bad)
    (tmp_path / "broken.py").write_text("x = 1\nx = = 2\n")
    (tmp_path / "zero.py").write_bytes(b"x = 1\0")
    (tmp_path / "latin.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (tmp_path / "large.py").write_text("#" * (LARGEST + 1))
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "out").symlink_to(tmp_path.parent, target_is_directory=True)
    found = scan(tmp_path)
    assert [(Path(hint.path).name, hint.line) for hint in found.hints] == [("a.py", 2), ("b.py", 2)]
    assert found.n_files == 2
    assert [Path(line.partition(":")[0]).name for line in found.unreadable] == [
        "broken.py", "deep.py", "latin.py", "zero.py"
    ]  # fmt: skip
    assert found.unreadable[0].endswith("broken.py: cannot be parsed: invalid syntax, line 2")
    assert [line.partition(": ")[2] for line in found.left_alone] == [
        "a link", f"{LARGEST + 1} bytes, more than {LARGEST}", "a link"
    ]  # fmt: skip
    assert all("\n" not in line for line in (*found.unreadable, *found.left_alone))
    assert [hint.line for hint in scan(tmp_path / "a.py").hints] == [2]
    assert scan(tmp_path / "link.py").n_files == 1  # asked for by name
    with pytest.raises(AuditError, match="no such file or directory"):
        scan(tmp_path / "nowhere")


def test_a_long_expression_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = " + "+".join(["(td * mask).mean()"] * 3000))
    found = scan(tmp_path)
    assert found.n_files + len(found.unreadable) == 1


def test_as_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.py").write_text("loss = (td * mask).mean()  # \x1b[2J\n")
    main(["audit", "--static", str(tmp_path)])  # returns: status 0, as hints are no findings
    out = capsys.readouterr().out
    assert f"hint [masked mean] {tmp_path}/a.py:1" in out
    assert "The probe `padding` would tell." in out
    assert "1 hint in 1 file. A hint is a question, not a finding" in out
    assert "\x1b" not in out
    main(["audit", "--static", str(tmp_path), "--json"])
    given = json.loads(capsys.readouterr().out)
    assert given["hints"][0]["line"] == 1
    assert given["unreadable"] == given["left_alone"] == []
    for arguments, words in [
        (["--static", str(tmp_path / "x")], "no such file or directory"),
        (["my_file.py:case", "--static", str(tmp_path)], "--static: given with 'my_file.py:case'"),
        (["--static", str(tmp_path), "--html", "page.html"], "--static: given with --html"),
        ([], "nothing to audit: want module:function, file.py:function, or --static PATH"),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(["audit", *arguments])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
