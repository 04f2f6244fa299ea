"""`endmark doctor`: what is broken is found, and nothing private is said."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import endmark.doctor
from endmark.cli import main
from endmark.doctor import Finding, examine, private
from endmark.ops import native


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    return {found.name: found for found in examine(tmp_path_factory.mktemp("here"))}


def test_training_works_here(findings: dict[str, Finding]) -> None:
    assert not [found for found in findings.values() if found.status == "broken"]
    assert "updates of qmix on matrix:two-step, saved and loaded" in findings["training"].value
    assert findings["Gymnasium (one agent)"].status == "ok"
    assert findings["kernels"].value.startswith(native.backend())
    assert {"torch", "processor", "threads", "GPU", "this directory", "disk", "plot"} <= set(findings)


def test_what_is_missing_comes_with_what_to_do(findings: dict[str, Finding]) -> None:
    for found in findings.values():
        assert found.status != "missing" or found.advice.startswith("pip install"), found


def test_the_command_and_its_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["doctor"])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\n\nTraining works here.\n")
    main(["doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["works"] is True
    for found in said["findings"]:
        assert f"{found['status']:7}  {found['name']}: " in out
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_broken_torch_is_said(tmp_path: Path) -> None:
    """In a process of its own, which finds this torch first."""
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-m", "endmark", "doctor"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "broken   torch: cannot be imported: OSError: libtorch.so: cannot open" in done.stdout
    assert "Training does not work here" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "plot: matplotlib" in done.stdout


def test_a_failing_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("no lock on this disk")

    monkeypatch.setattr("endmark.training.train", fails)
    (found,) = [found for found in examine(tmp_path) if found.status == "broken"]
    assert found.name == "training"
    assert "RuntimeError: no lock on this disk" in found.value


def test_a_directory_that_cannot_be_written_and_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {found.name: found for found in endmark.doctor._directory(tmp_path)}
    assert found["disk"].status == "ok"
    monkeypatch.setattr(endmark.doctor, "LEAST_FREE", 1 << 70)
    found = {found.name: found for found in endmark.doctor._directory(tmp_path)}
    assert (found["disk"].status, found["this directory"].status) == ("note", "ok")

    def refused(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    found = {found.name: found for found in endmark.doctor._directory(tmp_path)}
    assert found["this directory"].status == "broken"
    assert "Permission denied" in found["this directory"].value


def test_missing_kernels_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "native", None)
    monkeypatch.setitem(sys.modules, "endmark._native", None)
    (found,) = endmark.doctor._kernels()
    assert found.status == "note"
    assert found.value.startswith("none (no compiler at installation)")


def test_no_user_name_and_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    assert private("/home/anna/code/x.py and /home/annabel/x") == "~/code/x.py and /home/annabel/x"
    assert private("/scratch/anna/runs, /anna.old/x") == "/scratch/USER/runs, /anna.old/x"
    monkeypatch.setenv("HOME", "/")
    assert private("/usr/bin") == "/usr/bin"
