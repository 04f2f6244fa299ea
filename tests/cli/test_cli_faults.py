"""The program where something outside of it goes wrong: names, terminals, pipes, code that exits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from endmark.cli import main
from endmark.cli.terminal import Terminal
from endmark.wording import printable

SMALL = "--steps 100 --n-envs 2 --batch-size 4 --replay-frames 2100"

EXITS = """
import argparse
import sys
from my_game import Walk


class Exits(Walk):
    def step(self, actions):
        sys.exit(0)


class Parses(Walk):
    def reset(self, seed=None):
        argparse.ArgumentParser().parse_args(["--help"])
"""
GAME = """
import numpy as np
from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec


class Walk:
    spec = EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=20, obs_shape=(1,))

    def reset(self, seed=None):
        return Frame(np.ones((1, 1), np.float32), np.ones((1, 2), np.bool_), np.ones(1, np.bool_))

    def step(self, actions):
        return Step(self.reset(), np.float32(0), "terminated")

    def close(self):
        pass
"""
LOSSES = """
import sys
import torch
from endmark.audit import Case, hard_batch
from endmark.episodes import EpisodeSpec


def case():
    network = torch.nn.Linear(1, 1)

    def loss(batch):
        sys.exit(0)

    batch = hard_batch(EpisodeSpec.of(n_agents=1, n_actions=2, episode_limit=6, obs_shape=(3,)), 0)
    return Case(loss, batch, network)


def function():
    exit()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with code that ends the program."""
    files = {
        "my_game": GAME,
        "my_exits": EXITS,
        "my_losses": LOSSES,
        "my_module": "import sys\nsys.exit(0)\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        sys.modules.pop(name, None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1, err
    assert err[:-1].isprintable()
    return err


def program(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The program as a shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "endmark", *arguments],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        text=True,
        check=False,
    )


# --- code that ends the program ---


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ("audit my_module:case", "my_module.py"),
        ("audit my_module.py:case", "my_module.py"),
        ("audit my_losses:case", "my_losses.py"),
        ("audit my_losses.py:function", "my_losses.py"),
        ("train my_module:Config --env CartPole-v1", "my_module.py"),
        (f"train iql --env my_exits:Exits {SMALL} --run-dir run", "my_exits.py"),
        (f"train iql --env my_exits:Parses {SMALL} --run-dir run", "my_exits.py"),
        ("check my_exits:Exits", "my_exits.py"),
    ],
)
def test_code_that_ends_the_program_is_an_error(
    here: Path, arguments: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(arguments.split(), capsys)
    assert "SystemExit: " in line or "Exited: sys.exit(" in line
    assert place in line


def test_the_place_is_in_the_code_that_called(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(f"train iql --env my_exits:Parses {SMALL} --run-dir run".split(), capsys)
    assert f"my_exits.py:{EXITS.splitlines().index('    def reset(self, seed=None):') + 2}" in line


# --- names and terminals ---


def test_printable() -> None:
    assert printable("Übung 这 a-b_c 'x'") == "Übung 这 a-b_c 'x'"
    assert printable("a\x1b[2J\r\n\x9b\u202e\udcff") == r"a\x1b[2J\r\n\x9b\u202e\udcff"


EVIL = "\x1b[2J\x1b]0;owned\x07[red]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", f"{EVIL}.npz"],
        ["eval", EVIL],
        ["plot", EVIL],
        ["train", "iql", "--env", EVIL],
        ["train", EVIL, "--env", "x"],
        ["train", "iql", "--env", "CartPole-v1", "--steps", EVIL],
        ["train", "iql", "--env", "CartPole-v1", f"--{EVIL}"],
        ["audit", f"{EVIL}:case"],
        [EVIL],
    ],
)
def test_a_name_cannot_move_the_cursor(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert r"\x1b[2J" in failure(arguments, capsys)


def test_what_is_printed_cannot_move_the_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    run = Path(f"run{EVIL.replace('/', '')}")
    run.mkdir()
    (run / "config.json").write_text('{"algorithm": {"name": "\\u001b[2Jq"}, "env": "[red]\\u001b[2Je"}')
    (run / "metrics.jsonl").write_text(
        '{"env_steps": 1, "episodes": 1, "updates": 1, "greedy_return": 1.0}\n'
    )
    for command in ("plot", "inspect"):
        main([command, str(run)])
        out, err = capsys.readouterr()
        assert err == ""
        assert "\x1b" not in out
        assert "\x07" not in out
        assert r"run\x1b[2J" in out
        assert "[red]" in out


def test_colours_of_the_program_itself_stay(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(force_terminal=True, color_system="standard").print(Text("a\x1bb", style="red"))
    assert capsys.readouterr().out == "\x1b[31ma\\x1bb\x1b[0m\n"


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize("env", [ASCII, {}])
def test_option_errors_are_the_same_in_every_terminal(env: dict[str, str]) -> None:
    done = program("train", "iql", "--env", "x", "--steps", "abc", **env)
    assert done.returncode == 2
    assert done.stderr == "endmark: Error parsing --steps: invalid literal for int() with base 10: 'abc'\n"
    done = program("train", "iql", "--env", "x", "--hiden-size", "8", **env)
    assert done.stderr == "endmark: Unrecognized options: --hiden-size, 8; did you mean --hidden-size?\n"


def test_letters_that_the_terminal_has_not(tmp_path: Path) -> None:
    run = tmp_path / "läufe"
    run.mkdir()
    (run / "config.json").write_text("{}")
    done = program("inspect", str(run), COLUMNS="200", **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"l\xe4ufe" in done.stdout
    done = program("inspect", str(tmp_path / "这.npz"), **ASCII)
    assert done.returncode == 2
    assert done.stderr.endswith("\\u8fd9.npz: no such file or directory\n")


# --- small commands, suggestions, values, pipes ---


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_needs_no_torch(flag: str) -> None:
    code = "import sys, endmark.cli; endmark.cli.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert words[0] == "endmark"
    assert "(torch" in words
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("trian", "no command 'trian': did you mean train?"),
        ("train qmx --env CartPole-v1", "unknown algorithm 'qmx': did you mean qmix?"),
        ("train qmix --env CartPole-v1 --hiden-size 8", "did you mean --hidden-size?"),
        ("eval run --episode 3", "did you mean --episodes?"),
        ("train iql --env CartPole-v1 --lr inf", "lr: given inf, want more than 0, and finite"),
        ("train iql --env CartPole-v1 --lr nan", "lr: given nan, want more than 0, and finite"),
        ("train iql --env CartPole-v1 --gamma nan", "gamma: given nan, want 0 to 1"),
        ("train iql --env CartPole-v1 --max-grad-norm inf", "max_grad_norm: given inf, want"),
        ("train ia2c --env CartPole-v1 --critic-lr inf", "critic_lr: given inf, want"),
        ("train ia2c --env CartPole-v1 --entropy-coef inf", "entropy_coef: given inf, want at least 0, and"),
        ("train ippo --env CartPole-v1 --clip inf", "clip: given inf, want"),
        ("train ippo --env CartPole-v1 --value-clip nan", "value_clip: given nan, want"),
        ("train ippo --env CartPole-v1 --target-kl -1", "target_kl: given -1.0, want"),
        (
            "train iql --env CartPole-v1 --save-every inf",
            "save_every: given inf, want more than 0 seconds, and",
        ),
        ("train iql --env CartPole-v1 --worker-timeout nan", "worker_timeout: given nan, want more than 0"),
    ],
)
def test_what_is_wrong_and_what_may_have_been_meant(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in failure(arguments.split(), capsys)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["envs", "--help", "train qmix --help"])
def test_a_reader_that_has_gone(command: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(writer) as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "endmark", *command.split()],
            stdout=pipe,
            stderr=subprocess.PIPE,
            env=env,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")
