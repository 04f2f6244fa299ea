"""The program: what it prints when things go well, and the one line when they do not."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest
import torch

import endmark.cli.envs
from endmark.algorithms import ALGORITHMS
from endmark.cli import main
from endmark.envs import installed
from endmark.run import read_config, read_metrics

OPTIONS = {
    "steps": 300,
    "batch-size": 4,
    "replay-frames": 2100,
    "n-envs": 2,
    "hidden-size": 8,
    "eval-every": 150,
    "log-every": 100,
    "eval-episodes": 2,
    "final-episodes": 4,
    "seed": 1,
}
TINY = [f"--{name}={value}" for name, value in OPTIONS.items()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory, and beside it what was printed."""
    directory = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["train", "iql", "--env", "CartPole-v1", *TINY, "--run-dir", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "endmark", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (directory.parent / "out.txt").write_text(done.stdout)
    return directory


def words(text: str) -> str:
    return " ".join(text.split())


def test_train_prints_progress_a_table_and_where_things_are(trained: Path) -> None:
    out = (trained.parent / "out.txt").read_text()
    lines = out.splitlines()
    assert re.fullmatch(
        r"3\d\d/300 steps  \d+ episodes  \d+ updates  greedy \d+\.\d+  \d+ steps/s  0 s left",
        [line for line in lines if "/300 steps" in line][-1],  # on a busy machine there are some before
    )
    assert "iql on CartPole-v1" in out
    for policy in ("greedy", "random"):
        assert any(re.match(rf"\W*{policy}\W+\d+\.\d+\W+\d+\.\d+ to \d+\.\d+\W", line) for line in lines), out
    assert str(trained / "curve.png") in out
    assert str(trained) in lines[-1] or str(trained) in lines[-2]
    assert "\x1b" not in out, "no colours where nobody sees them"
    assert (trained / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_run_directory_holds_what_it_should(trained: Path) -> None:
    names = {re.sub(r"\d.*", "", path.name) for path in trained.iterdir()}
    assert {"config.json", "metrics.jsonl", "weights.safetensors", "curve.png"} <= names
    assert "events.out.tfevents." in names
    assert not any("unfinished" in name for name in names)
    config = read_config(trained)
    assert (config["algorithm"]["name"], config["env"]) == ("iql", "CartPole-v1")
    assert (config["steps"], config["seed"]) == (300, 1)
    assert config["algorithm"]["hidden_size"] == 8
    assert [line["env_steps"] for line in read_metrics(trained)]


def test_eval_prints_a_table(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["eval", str(trained), "--episodes", "7"])
    out, err = capsys.readouterr()
    assert err == ""
    assert "iql on CartPole-v1" in words(out)
    assert re.search(r"greedy\W+\d+\.\d+\W+\d+\.\d+ to \d+\.\d+\W+\d+\.\d+\W+100%\W+0%", out), out
    assert "7" in out
    main(["eval", str(trained), "--episodes", "7"])
    assert capsys.readouterr().out == out, "the same episodes every time"
    main(["eval", str(trained), "--episodes", "1"])
    assert "one episode" in capsys.readouterr().out


def test_envs_shows_what_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["envs"])
    out, err = capsys.readouterr()
    assert err == ""
    here = [family for family in installed() if family.is_installed]
    assert all(example in out for family in here for example in family.examples)  # none is broken
    assert {"gymnasium", "lbforaging", "rware", "mpe2", "endmark"} <= {family.package for family in here}
    assert "endmark[rware]" not in out
    monkeypatch.setitem(sys.modules, "rware", None)
    main(["envs"])
    out, _ = capsys.readouterr()
    assert "not installed: pip install" in words(out)
    assert "endmark[rware]" in out
    assert "rware:rware-tiny-2ag-v2" not in out


@pytest.mark.parametrize("command", ["--help", "train --help", "train vdn -h", "train", "eval --help", ""])
def test_help_is_no_failure(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status: object = None
    try:
        main(command.split())
    except SystemExit as stop:
        status = stop.code
    assert not status
    out, err = capsys.readouterr()
    assert "usage: endmark" in out
    assert err == ""


def test_train_help_lists_every_algorithm_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    width = max(map(len, ALGORITHMS))
    for name, config in ALGORITHMS.items():
        assert f"  {name:{width}}  {str(config.__doc__).splitlines()[0]}" in lines


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_help_of_an_algorithm_shows_its_options_and_no_others(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", name, "--help"])
    out = words(capsys.readouterr().out)
    kinds: dict[str, Any] = dict(ALGORITHMS)
    fields = {algorithm: {f.name for f in dataclasses.fields(kind)} for algorithm, kind in kinds.items()}
    options = {option.replace("-", "_") for option in re.findall(r"--([a-z][a-z-]+)", out)}
    assert fields[name] <= options
    others = set().union(*fields.values()) - fields[name]
    assert others
    assert not others & options
    for option in ("--steps", "--seed", "--run-dir", "--device", "--env-arg", "--like"):
        assert option in out
    assert "Discount of a step's future" in out


def test_a_run_directory_is_named_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    env = "lbforaging:Foraging-5x5-2p-1f-v3"
    main(["train", "qmix", "--env", env, *TINY, "--steps", "60"])
    (directory,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"qmix-lbforaging-Foraging-5x5-2p-1f-v3-seed1-\d{8}-\d{6}", directory.name)
    assert directory.name in capsys.readouterr().out


def test_no_picture_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    main(["train", "iql", "--env", "CartPole-v1", *TINY, "--run-dir", str(tmp_path / "run")])
    assert 'pip install "endmark[plot]"' in words(capsys.readouterr().out)
    assert not (tmp_path / "run" / "curve.png").exists()


def test_no_events_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    main(["train", "iql", "--env", "CartPole-v1", *TINY, "--run-dir", str(tmp_path / "run")])
    assert not list((tmp_path / "run").glob("events*"))
    assert list(read_metrics(tmp_path / "run"))


# --- failures: one line that says what to do, and exit status 2 ---


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("endmark: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in out + err
    return err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train ppo --env CartPole-v1", ["unknown algorithm 'ppo'", "did you mean ippo"]),
        ("train dance --env CartPole-v1", ["want one of iql, vdn, qmix, qplex", "module:Config"]),
        ("train iql", ["--env"]),
        ("train --env CartPole-v1", ["want an algorithm: iql, vdn, qmix"]),
        (
            "train mappo --env CartPole-v1 --replay-frames 9",
            ["--replay-frames: no option of mappo; it is one of iql, vdn"],
        ),
        ("train vdn --env CartPole-v1 --no-normalise-value", ["--no-normalise-value: no option of vdn"]),
        ("train iql --env CartPole-v1 --env-arg size", ["env_arg: given 'size', want key=value"]),
        ("train iql --env CartPole-v1 --env-arg size=3", ["CartPole-v1", "size"]),
        ("train --like no/such/run", ["no/such/run is no run directory"]),
        ("train no_such_file:Config --env CartPole-v1", ["cannot import 'no_such_file'"]),
        ("train json:Config --env CartPole-v1", ["the module 'json' has no 'Config'"]),
        ("train json:JSONDecoder --env CartPole-v1", ["is no dataclass, want a config"]),
        ("train iql --env NoSuchThing-v1", ["unknown environment 'NoSuchThing-v1'", "endmark envs"]),
        ("train iql --env CartPole-v7", ["'CartPole-v7'"]),
        ("train iql --env CartPol-v1", ["did you mean CartPole-v1"]),
        ("train iql --env no_such_module.env_v1", ["no_such_module", "not installed"]),
        ("train iql --env Pendulum-v1", ["given vectors of 1 numbers", "want numbered actions; ippo"]),
        ("train iql --env CartPole-v1 --steps abc", ["--steps", "'abc'"]),
        ("train iql --env CartPole-v1 --steps 0", ["steps: given 0, want at least 1"]),
        ("train iql --env CartPole-v1 --lr -1", ["lr: given -1.0, want more than 0"]),
        ("train iql --env CartPole-v1 --gamma 2", ["gamma: given 2.0, want 0 to 1"]),
        ("train iql --env CartPole-v1 --seed -1", ["seed: given -1, want"]),
        (
            "train iql --env CartPole-v1 --seed 99999999999999999999",
            ["seed: given 99999999999999999999, want"],
        ),
        ("train iql --env CartPole-v1 --n-envs 0", ["n_envs: given 0, want at least 1"]),
        ("train iql --env CartPole-v1 --episode-limit 0", ["limit: given 0, want at least 1"]),
        ("train iql --env CartPole-v1 --replay-frames 10", ["replay_frames: given 10, want at least"]),
        ("train iql --env CartPole-v1 --replay-frames 100000000000000", ["100000000000000", "memory"]),
        ("train iql --env CartPole-v1 --target-update often", ["--target-update", "'soft', 'hard'"]),
        ("train iql --env CartPole-v1 --device nonsense", ["device: given 'nonsense'"]),
        ("train iql --env CartPole-v1 --device meta", ["device: given 'meta'"]),
        ("train iql --env CartPole-v1 --no-such-option 3", ["--no-such-option"]),
        ("train iql --env CartPole-v1 --steps", ["--steps"]),
        ("dance", ["dance"]),
        ("eval", ["PATH"]),
        ("eval no/such/run", ["no/such/run is no run directory"]),
        ("eval . --episodes 0", ["episodes: given 0, want at least 1"]),
        ("eval . --episodes many", ["--episodes", "'many'"]),
    ],
)
def test_a_failure_is_one_line_and_status_2(
    arguments: str,
    says: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = failure(arguments.split(), capsys)
    for part in says:
        assert part in line
    assert list(tmp_path.iterdir()) == [], "what is refused leaves nothing behind"


@pytest.mark.parametrize(
    ("module", "env", "extra"),
    [
        ("lbforaging", "lbforaging:Foraging-5x5-2p-1f-v3", "lbf"),
        ("rware", "rware:rware-tiny-2ag-v2", "rware"),
        ("mpe2", "mpe2.simple_spread_v3", "pettingzoo"),
    ],
)
def test_a_missing_extra_is_named(
    module: str, env: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Absent(MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname.partition(".")[0] == module:
                raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    line = failure(["train", "vdn", "--env", env], capsys)
    assert f"needs the package '{module}', which is not installed" in line
    assert f'pip install "endmark[{extra}]"' in line


def test_a_directory_that_holds_a_run_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    line = failure(["train", "iql", "--env", "CartPole-v1", *TINY, "--run-dir", str(trained)], capsys)
    assert f"{trained} holds a run already" in line
    assert "--run-dir" in line
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_a_directory_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    line = failure(
        ["train", "iql", "--env", "CartPole-v1", *TINY, "--run-dir", str(tmp_path / "file" / "run")], capsys
    )
    assert str(tmp_path / "file") in line


def test_a_damaged_run_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert "is no run directory" in failure(["eval", str(run)], capsys)
    config, weights = (trained / name for name in ("config.json", "weights.safetensors"))
    (run / "config.json").write_bytes(config.read_bytes())
    assert "holds no checkpoint" in failure(["eval", str(run)], capsys)
    whole = weights.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], b"\x80\x04" + whole[2:]):
        (run / "weights.safetensors").write_bytes(damaged)
        assert "weights.safetensors cannot be read" in failure(["eval", str(run)], capsys)
    torch.save({"a": torch.zeros(1)}, run / "weights.safetensors")
    assert "weights.safetensors cannot be read" in failure(["eval", str(run)], capsys)
    (run / "weights.safetensors").write_bytes(whole)
    (run / "config.json").write_text("{")
    assert "config.json is no JSON" in failure(["eval", str(run)], capsys)
    (run / "config.json").write_text('{"env": "CartPole-v1"}')
    assert "config.json does not fit" in failure(["eval", str(run)], capsys)
    (run / "config.json").write_text(config.read_text().replace('"hidden_size": 8', '"hidden_size": 9'))
    assert "weights.safetensors does not fit" in failure(["eval", str(run)], capsys)


def test_an_interruption_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(endmark.cli.envs, "installed", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["envs"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "endmark: interrupted\n"
