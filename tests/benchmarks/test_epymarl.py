"""The benchmark beside EPyMARL, on a program that prints what EPyMARL prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.epymarl import main, theirs

PROGRAM = """
import sys
settings = dict(word.split("=", 1) for word in sys.argv if "=" in word)
assert settings["--config"] == "qmix" and settings["seed"] == "3"
print(f"[INFO] Recent Stats | t_env:        100 | Episode:        2")
print(f"[INFO] Recent Stats | t_env: {settings['t_max']:>10} | Episode:       51")
"""


def checkout_of(folder: Path, program: str) -> Path:
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_text(program)
    return folder


def test_updates_are_counted_from_what_is_printed_last(tmp_path: Path) -> None:
    seconds, updates = theirs(checkout_of(tmp_path, PROGRAM), Path(sys.executable), 400, 3)
    assert seconds > 0
    assert updates == (51 - 31) / 400  # the first one is made when the replay holds 32 episodes


@pytest.mark.parametrize(
    ("program", "says"),
    [("print('nothing')", "printed no count of episodes"), ("raise OSError('no game')", "failed: .*no game")],
)
def test_a_program_that_does_something_else(program: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"(?s){says}"):
        theirs(checkout_of(tmp_path, program), Path(sys.executable), 400, 3)


def test_no_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert "want one with src/main.py" in capsys.readouterr().err
