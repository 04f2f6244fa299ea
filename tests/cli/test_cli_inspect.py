"""`endmark explain` and `endmark inspect`: what they print, and their exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from endmark.cli import main
from endmark.episodes.files import save_episodes
from endmark.episodes.masks import REASONS
from endmark.run import read_metrics
from support.commands import status
from support.helpers import bits, random_batch

# filled, terminated, shift mask, exact mask, reason of the difference, exit status of inspect
TABLE: dict[str, tuple[str, str, str, str, str | None, int]] = {
    "filled to the brim after the end": ("1111111", "0001000", "111101", "111100", "stale", 1),
    "PyMARL layout, ended at step 3": ("1111100", "0001000", "111100", "111100", None, 0),
    "truncated after 4 steps": ("1111100", "0000000", "111110", "111100", "phantom", 0),
    "final frame not stored": ("1111000", "0001000", "111100", "111100", None, 0),
    "full length, truncated at the limit": ("1111111", "0000000", "111111", "111111", None, 0),
    "full length, terminated at the last step": ("1111111", "0000010", "111111", "111111", None, 0),
    "nothing filled": ("0000000", "0000000", "000000", "000000", None, 1),
}


def refusal(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    """The one line with which the program refuses, after nothing else and with exit status 2."""
    assert status(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1
    return err


def words(text: str) -> str:
    return " ".join(text.split())


def write(path: Path, filled: str, terminated: str, obs: float = 0.0) -> Path:
    columns = len(filled)
    np.savez(
        path,
        filled=bits(filled).numpy(),
        terminated=bits(terminated).numpy(),
        obs=np.full((1, columns, 2), obs, dtype=np.float32),
    )
    return path


@pytest.mark.parametrize("case", TABLE)
def test_the_worked_table(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled, terminated, shift, exact, reason, exit_status = TABLE[case]
    path = write(tmp_path / "batch.npz", filled, terminated)

    assert status("explain", "--filled", filled, "--terminated", terminated) == 0
    explained = words(capsys.readouterr().out)
    assert status("explain", "--file", path) == 0
    from_file = words(capsys.readouterr().out)
    for text in (explained, from_file):
        assert f"shift mask {shift} (1, 6, 1)" in text
        assert f"exact mask {exact} (1, 6, 1)" in text
        for each, in_words in REASONS.items():
            assert (in_words in text) == (each == reason)
        assert ("no final frame stored" in text) == (case == "final frame not stored")

    assert status("explain", "--filled", filled, "--terminated", terminated, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exact_mask"]["values"] == [int(bit) for bit in exact]
    assert [found["reason"] for found in told["differences"]] == ([reason] if reason else [])

    assert status("inspect", path) == exit_status
    inspected = words(capsys.readouterr().out)
    assert ("the shift mask and the exact one agree on every step" in inspected) == (reason is None)
    assert f"steps {exact.count('1')}; an episode: " in inspected
    assert ("verdict broken" in inspected) == (exit_status == 1)
    for each, in_words in REASONS.items():
        assert (in_words in inspected) == (each == reason)

    assert status("inspect", path, "--json") == exit_status
    told = json.loads(capsys.readouterr().out)
    assert told["lengths"] == [exact.count("1")]
    assert told["differences"] == ({reason: 1} if reason else {})
    assert told["broken"] == (exit_status == 1)


def test_one_episode_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, filled=bits("111", "110").numpy(), terminated=bits("010", "100").numpy())
    assert status("explain", "--file", path, "--episode", "1") == 0
    assert f"row 1 of {path}, B = 2, T+1 = 3" in capsys.readouterr().out
    assert "episode: given 2, want 0 to 1" in refusal(capsys, "explain", "--file", path, "--episode", "2")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "want --filled and --terminated"),
        (["--filled", "111"], "want --filled and --terminated"),
        (["--filled", "1112", "--terminated", "0000"], "filled: given '2' at t 3, want only 0 and 1"),
        (["--filled", "111", "--terminated", "0000"], "filled has 3 columns, terminated 4"),
        (["--filled", "", "--terminated", ""], "filled: given nothing, want 0s and 1s"),
        (["--filled", "1", "--terminated", "0"], "filled: given one frame and so no step"),
        (["--filled", "11", "--terminated", "00", "--file", "x.npz"], "given --file and flags; want either"),
        (["--file", "nothing.npz"], "nothing.npz: no such file or directory"),
        (["--episode", "one"], "episode"),
    ],
)
def test_explain_refuses_in_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, "explain", *args)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"filled": np.ones((0, 4, 1)), "terminated": np.ones((0, 4, 1))}, "an empty batch"),
        ({"filled": np.ones((1, 1, 1)), "terminated": np.zeros((1, 1, 1))}, "one frame and so no step"),
        ({"filled": np.ones((2, 4)), "terminated": np.zeros((2, 4))}, "want (B, T+1, 1)"),
        ({"terminated": np.zeros((2, 4, 1))}, "field 'filled' is missing; given terminated"),
        ({"words": np.zeros(3)}, "field 'filled' is missing; given words"),
    ],
)
@pytest.mark.parametrize("command", [["inspect"], ["explain", "--file"]])
def test_what_is_no_batch_is_refused_in_one_line(
    command: list[str],
    flags: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "batch.npz", **flags)  # type: ignore[arg-type]
    assert message in refusal(capsys, *command, tmp_path / "batch.npz")


def test_a_truncated_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "batch.npz", "1111", "0010")
    path.write_bytes(path.read_bytes()[:100])
    assert refusal(capsys, "inspect", path) == f"endmark: {path}: damaged, or no .npz file\n"


def test_a_file_that_needs_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "batch.pt"
    torch.save({"filled": bits("11"), "terminated": bits("00"), "where": tmp_path}, path)
    assert "could run any code, so it is refused" in refusal(capsys, "inspect", path)


def test_a_run_and_a_stored_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert status("inspect", tmp_path) == 0
    assert "no episodes are stored yet" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert "no episodes are stored yet" in refusal(capsys, "inspect", tmp_path, "--html", page)
    batch = random_batch(2)
    save_episodes(batch, tmp_path / "replay.safetensors")
    for path in (tmp_path, tmp_path / "replay.safetensors"):
        assert status("inspect", path, "--json") == 0
        assert json.loads(capsys.readouterr().out)["lengths"] == batch.lengths.tolist()
        assert status("inspect", path) == 0
        assert "none is stored; padded to the longest episode it would be" in words(capsys.readouterr().out)


def test_nan_on_real_steps_and_behind_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "batch.npz", "1111", "0010", obs=float("nan"))
    assert status("inspect", path) == 1
    assert "obs: 4 on real frames, 0 elsewhere; first at row 0, t 0" in capsys.readouterr().out
    content = dict(np.load(path))
    content["filled"] = bits("1100").numpy()
    content["terminated"] = bits("1000").numpy()
    content["obs"][:, :2] = 0
    np.savez(path, **content)
    assert status("inspect", path) == 0
    assert "obs: 0 on real frames, 2 elsewhere; first at row 0, t 2" in capsys.readouterr().out


def test_the_page_is_written_also_when_the_batch_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = write(tmp_path / "batch.npz", "1111", "0100"), tmp_path / "page.html"
    assert status("inspect", path, "--html", page) == 1
    assert "verdict" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert "No such file" in refusal(capsys, "inspect", path, "--html", tmp_path / "nowhere" / "page.html")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_in_a_pipe_it_is_plain(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "batch.npz", "1111", "0100")
    env = os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "endmark", "inspect", path], capture_output=True, env=env, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    bar = "#" if encoding == "ascii" else "█"
    assert f"2 {bar * 32} 1" in done.stdout.decode(encoding)


def test_the_facts_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained to its end; then as a kill would have left it, before the episodes were stored."""
    monkeypatch.setenv("COLUMNS", "200")
    run = tmp_path / "run"
    options = "--env CartPole-v1 --steps 300 --n-envs 2 --batch-size 4 --replay-frames 2100 --eval-every 100"
    ended = "--eval-episodes 2 --final-episodes 2 --seed 7"
    main(["train", "iql", *options.split(), *ended.split(), "--run-dir", str(run)])
    capsys.readouterr()
    assert status("inspect", run) == 0
    whole = capsys.readouterr().out
    for part in ("iql on CartPole-v1, seed 7", " of 300 steps, ", "; at its end", "greedy return: last "):
        assert part in whole
    assert status("inspect", run, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    facts = told["run"]
    assert facts["counters"]["env_steps"] == facts["checkpoint"] == facts["state"] >= 300
    assert facts["counters"]["episodes"] == len(told["lengths"])
    assert len(facts["evaluations"]) == len([p for p in read_metrics(run) if "greedy_return" in p]) >= 2
    assert facts["best"] in {steps for steps, _ in facts["evaluations"]}
    assert f"and the best of {facts['best']} (--checkpoint best)" in whole
    assert facts["exact"] is True

    (run / "replay.safetensors").unlink()
    assert status("inspect", run) == 0
    assert words(capsys.readouterr().out) == words(whole), "the state holds the same episodes"

    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"env": "NoSuchThing-v1", "steps": 900}))
    assert status("inspect", run) == 0
    out = capsys.readouterr().out
    assert "; not at its end" in out
    assert "unknown environment 'NoSuchThing-v1'" in out, "the facts, and why not the episodes"
    (run / "config.json").write_text(json.dumps(config | {"made_with": {"exact": False}}))
    assert status("inspect", run) == 0
    assert re.search(r"^exact +no: it was resumed", capsys.readouterr().out, re.MULTILINE)

    for name, says in [("state", "is damaged"), ("weights", "cannot be read"), ("best", "cannot")]:
        path = run / f"{name}.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert f"{path} {says}" in refusal(capsys, "inspect", run)
        path.write_bytes(content)
    (run / "metrics.jsonl").write_text('{"loss": 1}\n')
    assert "metrics.jsonl is damaged: no counts of env_steps" in refusal(capsys, "inspect", run)
    (run / "metrics.jsonl").unlink()
    assert status("inspect", run) == 0
    assert "evaluations  none yet" in capsys.readouterr().out


def test_the_newest_episodes_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that ended, was resumed with more steps and killed has an old replay and a newer state."""
    run = tmp_path / "run"
    options = "--env CartPole-v1 --n-envs 2 --batch-size 4 --replay-frames 2100 --eval-episodes 2"
    options += " --final-episodes 2"
    main(["train", "iql", *options.split(), "--steps", "300", "--run-dir", str(run)])
    old = (run / "replay.safetensors").read_bytes()
    main(["resume", str(run), "--steps", "600"])
    state = (run / "state.safetensors").stat().st_mtime_ns
    (run / "replay.safetensors").write_bytes(old)
    os.utime(run / "replay.safetensors", ns=(state - 1, state - 1))
    capsys.readouterr()
    assert status("inspect", run, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["lengths"]) == told["run"]["counters"]["episodes"]
