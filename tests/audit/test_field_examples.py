"""The cases of other projects' learners: what they say without the project, and what they find with it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from endmark.audit import AuditError, checkout
from support.commands import status

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKOUTS = [
    ("PYMARL", "audit_pymarl.py:qmix"),
    ("EPYMARL", "audit_epymarl.py:q_learner"),
    ("ON_POLICY", "audit_on_policy.py:r_mappo"),
    ("HARL", "audit_harl.py:happo"),
]


@pytest.mark.parametrize(("variable", "target"), CHECKOUTS)
def test_without_a_checkout_one_line_says_which_is_wanted(
    variable: str, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("yaml")
    monkeypatch.delenv(variable, raising=False)
    assert status("audit", EXAMPLES / target) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"endmark: {variable}: not set, want the folder of a checkout")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("package", "target"), [("torchrl", "audit_torchrl.py:gae"), ("trl", "audit_trl.py:grpo")]
)
def test_without_the_package_one_line_says_so(
    package: str, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensordict", "datasets", package):
        monkeypatch.setitem(sys.modules, name, None)
    assert status("audit", EXAMPLES / target) == 2
    error = capsys.readouterr().err.strip()
    assert "cannot be run: ModuleNotFoundError" in error
    assert "\n" not in error


def test_a_checkout_is_found_and_its_modules_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PROJECT", str(tmp_path))
    with pytest.raises(AuditError, match=r"PROJECT: given '.*', where there is no folder 'src'"):
        checkout("PROJECT", "src")
    (tmp_path / "src").mkdir()
    assert checkout("PROJECT", "src") == (tmp_path / "src").resolve()
    assert sys.path[0] == str((tmp_path / "src").resolve())
    assert checkout("PROJECT", "src")
    assert sys.path.count(sys.path[0]) == 1


@pytest.mark.parametrize(
    ("package", "target", "wanted"),
    [
        ("torchrl", "audit_torchrl.py:gae", 0),
        ("torchrl", "audit_torchrl.py:gae_split", 1),
        ("trl", "audit_trl.py:grpo", 0),
    ],
)
def test_what_the_report_says_holds_where_the_package_is_installed(
    package: str, target: str, wanted: int
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-c", "from endmark.cli import main; main()"]
    run = subprocess.run(
        [*command, "audit", "--quick", str(EXAMPLES / target)], capture_output=True, text=True, check=False
    )
    assert run.returncode == wanted, run.stderr
