"""The scripts for the Tab key offer what the parsers take, in the shells themselves."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from endmark.algorithms import ALGORITHMS
from endmark.cli import COMMANDS, main
from endmark.cli.completion import tables
from endmark.cli.shells import SCRIPTS

IN_ZSH = """
compdef() { :; }
compadd() { shift; print -l -- ${(M)@:#$word*}; }
_describe() { compadd -- ${lines%%:*}; }
_files() { [[ $1 == -/ ]] && print -l -- $word*(/) || print -l -- $word*; }
setopt nullglob
"""


def offered(shell: str, line: str, directory: Path) -> set[str]:
    """What the shell offers when Tab is pressed at the end of this line, in this directory."""
    script = directory.parent / f"script.{shell}"
    if not script.exists():
        script.write_text(SCRIPTS[shell](tables()), encoding="utf-8")
    if shell == "bash":
        call = f"COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; _endmark"
        shown = "printf '%s\\n' \"${COMPREPLY[@]}\""
        program = ["bash", "--norc", "-c", f"source {script}\n{call}\n{shown}"]
    elif shell == "zsh":
        words = " ".join(map(shlex.quote, [*line.split(), *([""] if line.endswith(" ") else [])]))
        program = [
            "zsh",
            "-f",
            "-c",
            f"{IN_ZSH}\nsource {script}\nwords=({words}); CURRENT=$#words; _endmark",
        ]
    else:
        program = ["fish", "--no-config", "-c", f"source {script}\ncomplete -C {shlex.quote(line)}"]
    done = subprocess.run(program, cwd=directory, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return {found.partition("\t")[0].rstrip("/") for found in done.stdout.splitlines() if found}


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    return str(request.param)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run, a folder of runs and a file."""
    made = tmp_path_factory.mktemp("tab") / "here"
    (made / "runs" / "one").mkdir(parents=True)
    (made / "runs" / "two").mkdir()
    (made / "runs" / "grid.toml").write_text("")
    return made


def test_commands_algorithms_options_values_and_paths(shell: str, directory: Path) -> None:
    def tab(line: str) -> set[str]:
        return offered(shell, line, directory)

    assert set(COMMANDS) <= tab("endmark ")
    assert tab("endmark cr") == {"crossplay"}
    assert set(ALGORITHMS) <= tab("endmark train ")
    assert {"--lr", "--steps", "--env", "--run-dir", "--no-double-q"} <= tab("endmark train qmix --")
    assert "--clip" not in tab("endmark train qmix --")
    assert "--clip" in tab("endmark train mappo --")
    assert tab("endmark train vdn --env x --target-u") == {"--target-update"}
    assert tab("endmark train vdn --target-update ") == {"soft", "hard"}
    assert tab("endmark eval runs/one --checkpoint b") == {"best"}
    assert tab("endmark eval runs/") == {"runs/one", "runs/two"}
    assert {"runs/one", "runs/two", "runs/grid.toml"} <= tab("endmark compare runs/")
    assert tab("endmark resume runs/t") == {"runs/two"}
    assert tab("endmark completion f") == {"fish"}
    assert not tab("endmark train qmix --seed ") & {"--lr", "--steps"}


def test_a_colon_in_a_name(shell: str, directory: Path) -> None:
    """bash completes from the last colon on, the others the whole word."""
    found = offered(shell, "endmark train qmix --env matrix:cl", directory)
    assert found == {"climbing" if shell == "bash" else "matrix:climbing"}


@pytest.mark.parametrize("line", ["train qmix --env=matrix:cl", "train qmix --steps 9 --env=matrix:cl"])
def test_a_value_behind_an_equals_sign_in_bash(line: str, directory: Path) -> None:
    assert offered("bash", f"endmark {line}", directory) == {"climbing"}


def test_endmark_does_not_run_when_tab_is_pressed(directory: Path) -> None:
    script = SCRIPTS["bash"](tables())
    assert not re.search(r"(?m)^\s*(?!#)[^']*\$\(.*endmark", script)
    assert "python" not in script


@pytest.mark.parametrize("place", tables().places)
def test_the_options_are_those_of_the_parser(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*place.split(), "--help"])
    rows = re.findall(r"(?m)^\W*? (-.*?)(?:  |│|$)", capsys.readouterr().out)
    shown = {option for row in rows for option in re.findall(r"--[a-z][\w-]*", row)}
    assert shown == set(tables().places[place].options)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_front_page_has_examples_with_options_that_exist(name: str) -> None:
    command, *words = shlex.split(COMMANDS[name].example)
    assert command == name
    places = tables().places
    place = f"train {words[0]}" if name == "train" else name
    assert {word for word in words if word.startswith("--")} <= set(places[place].options)


def test_the_front_page_fits_a_terminal_and_imports_nothing_heavy() -> None:
    code = "import sys; from endmark.cli import main; main([]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.isascii()
    for name, command in COMMANDS.items():
        assert re.search(rf"(?m)^  {name} +{re.escape(command.line)}$", done.stdout)
        assert f"endmark {command.example}\n" in done.stdout
    assert not {"torch", "numpy", "tyro", "rich", "gymnasium"} & set(done.stderr.split())
