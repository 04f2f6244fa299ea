"""A run directory can be read at every moment, and says in one line what is wrong with it."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from endmark.run import Counters, Run, RunError, read_checkpoint, read_config, read_metrics


def config(**changes: Any) -> dict[str, Any]:
    """A configuration, as JSON has it."""
    return {"env": "an id", "limit": None, "inner": {"lr": 0.1}} | changes


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3, dtype=torch.float64)}


def test_the_configuration_round_trips(tmp_path: Path) -> None:
    with Run(tmp_path / "deep" / "run", config(limit=3)):
        assert read_config(tmp_path / "deep" / "run") == {"env": "an id", "limit": 3, "inner": {"lr": 0.1}}
    assert "made_with" in json.loads((tmp_path / "deep" / "run" / "config.json").read_text())
    assert not list(tmp_path.rglob("*.unfinished"))


def test_lines_can_be_read_at_once(tmp_path: Path) -> None:
    with Run(tmp_path / "run", config()) as run:
        assert list(read_metrics(tmp_path / "run")) == []
        for i in range(1, 4):
            run.log(Counters(10 * i, i, 2 * i), {"loss": 0.5 * i})
            lines = list(read_metrics(tmp_path / "run"))
            assert len(lines) == i
            seconds = lines[-1].pop("seconds")
            assert seconds is not None
            assert seconds >= 0
            assert lines[-1] == {"env_steps": 10 * i, "episodes": i, "updates": 2 * i, "loss": 0.5 * i}


@pytest.mark.filterwarnings("ignore:.*NaN or Inf")
def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    with Run(tmp_path / "run", config()) as run:
        run.log(Counters(), {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=refuse)
    assert {name: line[name] for name in "abcd"} == {"a": None, "b": None, "c": None, "d": 1.5}
    assert list(read_metrics(tmp_path / "run")) == [line]


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    with Run(tmp_path / "run", config()) as run:
        run.log(Counters(1, 1, 0), {"loss": 1.0})
        run.log(Counters(2, 1, 0), {"loss": 2.0})
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert [line["loss"] for line in read_metrics(tmp_path / "run")] == [1.0], cut
    path.write_bytes(whole)
    assert [line["loss"] for line in read_metrics(tmp_path / "run")] == [1.0, 2.0]


def test_a_checkpoint_round_trips_with_its_counters(tmp_path: Path) -> None:
    with Run(tmp_path / "run", config()) as run:
        for counters in (Counters(1, 0, 0), Counters(123, 45, 6)):
            transposed = TENSORS["a.weight"].clone().requires_grad_().t()
            run.checkpoint(counters, {**TENSORS, "a.weight": transposed})
            read, tensors = read_checkpoint(tmp_path / "run")
            assert read == counters
            assert tensors.keys() == TENSORS.keys()
            assert torch.equal(tensors["a.weight"], TENSORS["a.weight"].t())
            assert tensors["count"].dtype == torch.float64
            assert torch.equal(tensors["count"], TENSORS["count"])


@pytest.mark.parametrize("when", ["before", "halfway", "at the end"])
def test_a_checkpoint_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    save = safetensors.torch.save_file

    def failing(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if when != "before":
            save(tensors, path, metadata=metadata)
        if when == "halfway":
            os.truncate(path, path.stat().st_size // 2)
        raise OSError("no space left on device")

    with Run(tmp_path / "run", config()) as run:
        run.checkpoint(Counters(1, 2, 3), TENSORS)
        with monkeypatch.context() as patch:
            patch.setattr(safetensors.torch, "save_file", failing)
            with pytest.raises(OSError, match="no space"):
                run.checkpoint(Counters(4, 5, 6), {"other": torch.zeros(1)})
        counters, tensors = read_checkpoint(tmp_path / "run")
        assert counters == Counters(1, 2, 3)
        assert torch.equal(tensors["a.weight"], TENSORS["a.weight"])
        # What the failure left behind is in nobody's way.
        run.checkpoint(Counters(7, 8, 9), {"other": torch.zeros(1)})
    counters, tensors = read_checkpoint(tmp_path / "run")
    assert (counters, list(tensors)) == (Counters(7, 8, 9), ["other"])


def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path / "run", config()) as run:
        run.log(Counters(), {"loss": 1.0})
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError, match="holds a run already; choose another --run-dir"):
        Run(tmp_path / "run", config(env="another"))
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert len(list(read_metrics(tmp_path / "run"))) == 1


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    with Run(tmp_path, config()):
        assert read_config(tmp_path)["env"] == "an id"


def no_config(run: Path) -> None:
    (run / "config.json").unlink()


def config_cut_short(run: Path) -> None:
    os.truncate(run / "config.json", 20)


def config_of_another_kind(run: Path) -> None:
    (run / "config.json").write_text("[1, 2]")


def config_of_bytes(run: Path) -> None:
    (run / "config.json").write_bytes(b"\xff\xfe\x00{")


def no_metrics(run: Path) -> None:
    (run / "metrics.jsonl").unlink()


def metrics_damaged(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"env_steps": 1}\n{"env_st\n{"env_steps": 3}\n')


def metrics_of_another_kind(run: Path) -> None:
    (run / "metrics.jsonl").write_text("[1]\n")


def metrics_of_bytes(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe\x00\n")


def no_weights(run: Path) -> None:
    (run / "weights.safetensors").unlink()


def weights_cut_short(run: Path) -> None:
    os.truncate(run / "weights.safetensors", (run / "weights.safetensors").stat().st_size - 3)


def weights_empty(run: Path) -> None:
    (run / "weights.safetensors").write_bytes(b"")


def weights_pickled(run: Path) -> None:
    (run / "weights.safetensors").write_bytes(pickle.dumps(Trap()))


def weights_of_torch_save(run: Path) -> None:
    torch.save(TENSORS, run / "weights.safetensors")


def other_metadata(run: Path) -> None:
    safetensors.torch.save_file(
        TENSORS, run / "weights.safetensors", metadata={"counters": '{"env_steps": "many"}'}
    )


def unknown_metadata(run: Path) -> None:
    safetensors.torch.save_file(TENSORS, run / "weights.safetensors", metadata={"format": "pt"})


def deep(run: Path) -> None:
    for name in ("config.json", "metrics.jsonl"):
        (run / name).write_text("[" * 100_000 + "]" * 100_000 + "\n")
    safetensors.torch.save_file(
        TENSORS, run / "weights.safetensors", metadata={"counters": "[" * 100_000 + "]" * 100_000}
    )


def metrics_of(line: str) -> Callable[[Path], object]:
    return lambda run: (run / "metrics.jsonl").write_text(line + "\n")


def counters_of(counters: str) -> Callable[[Path], object]:
    path = "weights.safetensors"
    return lambda run: safetensors.torch.save_file(TENSORS, run / path, metadata={"counters": counters})


class Trap:
    """Unpickling this leaves a mark."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch UNPICKLED",)


@pytest.mark.parametrize(
    ("damage", "read", "message"),
    [
        (no_config, read_config, "is no run directory: it has no config.json"),
        (config_cut_short, read_config, "config.json is no JSON"),
        (config_of_another_kind, read_config, "given list, want an object"),
        (config_of_bytes, read_config, "config.json is no JSON"),
        (no_metrics, read_metrics, "is no run directory: it has no metrics.jsonl"),
        (metrics_damaged, read_metrics, "metrics.jsonl"),
        (metrics_of_another_kind, read_metrics, "metrics.jsonl"),
        (metrics_of_bytes, read_metrics, "metrics.jsonl"),
        (no_weights, read_checkpoint, "holds no checkpoint: it has no weights.safetensors"),
        (weights_cut_short, read_checkpoint, "weights.safetensors cannot be read"),
        (weights_empty, read_checkpoint, "weights.safetensors cannot be read"),
        (weights_pickled, read_checkpoint, "weights.safetensors cannot be read"),
        (weights_of_torch_save, read_checkpoint, "weights.safetensors cannot be read"),
        (other_metadata, read_checkpoint, "weights.safetensors cannot be read"),
        (unknown_metadata, read_checkpoint, "weights.safetensors cannot be read: it has no counters"),
        (deep, read_config, "config.json is no JSON: nested too deeply"),
        (deep, read_metrics, "line 1 is no JSON: nested too deeply"),
        (deep, read_checkpoint, "weights.safetensors cannot be read: nested too deeply"),
        (metrics_of('{"loss": "low"}'), read_metrics, "line 1: 'loss': given 'low', want a finite number or"),
        (metrics_of('{"loss": true}'), read_metrics, "line 1: 'loss': given True, want a finite number or"),
        (metrics_of('{"loss": NaN}'), read_metrics, "line 1: 'loss': given nan, want a finite number or"),
        (metrics_of('{"a": 1' + "0" * 400 + "}"), read_metrics, "line 1: 'a': given 1000"),
        (metrics_of('{"\\u001b": []}'), read_metrics, r"line 1: '\x1b': given [], want a finite number"),
        (counters_of('{"env_steps": 1e999}'), read_checkpoint, "counters: given {'env_steps': inf}, want"),
        (counters_of("3"), read_checkpoint, "counters: given 3, want env_steps, episodes, updates"),
        (
            counters_of('{"env_steps": -1, "episodes": 0, "updates": 0}'),
            read_checkpoint,
            "counters: env_steps: given -1, want 0 <= count < 2**63",
        ),
    ],
)
def test_what_cannot_be_read_is_said_on_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], object],
    read: Callable[[Path], object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "run"
    with Run(run_dir, config()) as run:
        run.log(Counters(1, 1, 0), {"loss": 1.0})
        run.checkpoint(Counters(1, 1, 0), TENSORS)
    damage(run_dir)

    def read_all() -> object:
        return list(read_metrics(run_dir)) if read is read_metrics else read(run_dir)

    with pytest.raises(RunError) as error:
        read_all()
    assert message in str(error.value)
    assert str(run_dir) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "UNPICKLED").exists()


def test_a_directory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for read in (read_config, read_checkpoint, lambda path: list(read_metrics(path))):
        with pytest.raises(RunError, match="nowhere"):
            read(tmp_path / "nowhere")
