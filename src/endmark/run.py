"""A run directory: what a run leaves behind, readable at every moment, also after a kill.

config.json            how the run was made, and at its end that it is finished
state.safetensors      all that the run's future depends on, for `endmark resume`
metrics.jsonl          one JSON object a line; keys in `endmark.training.loop`
events.out.tfevents.*  the same for TensorBoard, where it is installed
weights.safetensors    the last checkpoint's tensors; its metadata holds the counters
best.safetensors       the same for the best greedy evaluation so far, the latest of equals
final.json             every episode of the evaluation at the end (`endmark.training.final`)
replay.safetensors     the replay's episodes, at the end (`endmark.episodes.files`)
curve.png              the learning curve, when the run ends and by `endmark plot`
lock                   held by the process that trains here
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from endmark import __version__
from endmark.disk import replacing
from endmark.episodes.files import own_tensors
from endmark.trackers import Tracker, check_installed, trackers
from endmark.wording import joined, quoted, shortened, shown

CONFIG, METRICS = "config.json", "metrics.jsonl"
WEIGHTS, BEST, REPLAY = "weights.safetensors", "best.safetensors", "replay.safetensors"
_LONGEST_LINE = 65536  # of metrics.jsonl, in bytes: some hundred metrics are a tenth of it


class Counters(NamedTuple):
    """How far a run is."""

    env_steps: int = 0
    episodes: int = 0
    updates: int = 0


class RunError(ValueError):
    """A run directory that is not one, or holds what cannot be read; the message says what to do."""


class Run:
    """Writes a run directory. A context manager: leaving it closes the files.

    resume: go on with the run that is there. `begin` or `load_state_dict` says where the log goes on.
    log_to: trackers beside TensorBoard, by their names in `endmark.trackers`.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        log_to: Sequence[str] = (),
    ) -> None:
        check_installed(log_to)
        if not resume and (directory / CONFIG).exists():
            raise RunError(f"{directory} holds a run already; choose another --run-dir, or delete it")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        made_with = {"endmark": __version__, "torch": torch.__version__}
        _write(directory / CONFIG, {**config, "made_with": made_with})
        self._metrics = (directory / METRICS).open("ab")
        self._began = time.monotonic()
        self._config, self._log_to = config, log_to
        self._trackers: Mapping[str, Tracker] = {}

    def begin(self) -> Counters:
        """Start from the beginning. What an earlier try logged is cut off."""
        self.load_state_dict({"metrics_bytes": 0, "seconds": 0.0, "trackers": {}}, Counters())
        return Counters()

    def mark_inexact(self) -> None:
        """Note in config.json that the run went on otherwise than it would have without a stop."""
        self._mark(exact=False)

    def mark_finished(self) -> None:
        """Note in config.json, as the last thing that a run writes, that it came to its end.

        A run that is taken up again is unfinished until it comes there again.
        """
        self._mark(finished=True)

    def _mark(self, **marks: bool) -> None:
        config = _read_config(self.directory)
        config["made_with"] |= marks
        _write(self.directory / CONFIG, config)

    def state_dict(self) -> dict[str, Any]:
        """How far `metrics.jsonl` is, in bytes, the seconds so far, and by what ids trackers know the run."""
        return {
            "metrics_bytes": self._metrics.tell(),
            "seconds": time.monotonic() - self._began,
            "trackers": {name: self._trackers[name].id for name in self._log_to if name in self._trackers},
        }

    def load_state_dict(self, state: Mapping[str, Any], counters: Counters) -> None:
        """Cut off what was logged after the state was saved, here and for TensorBoard."""
        size = int(state["metrics_bytes"])
        if (given := self._metrics.tell()) < size:
            raise RunError(f"{self.directory / METRICS}: given {given} bytes, want at least {size}")
        self._metrics.truncate(size)
        self._metrics.seek(size)
        self._began = time.monotonic() - float(state["seconds"])
        ids = state.get("trackers", {})
        self._trackers = trackers(self.directory, self._config, counters.env_steps, self._log_to, ids)

    def log(self, counters: Counters, metrics: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, written through at once: counters, `seconds` since the start, metrics.

        A number that is not finite becomes null: JSON has no NaN.
        """
        numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        line = {**counters._asdict(), "seconds": round(time.monotonic() - self._began, 3), **numbers}
        self._metrics.write((json.dumps(line) + "\n").encode())
        self._metrics.flush()
        for tracker in self._trackers.values():
            tracker.log(counters.env_steps, metrics)

    def checkpoint(self, counters: Counters, tensors: Mapping[str, Tensor], *, best: bool = False) -> None:
        """Replace the checkpoint: the old one stays until the new one is complete. best: and the best one."""
        metadata = {"counters": json.dumps(counters._asdict())}  # one entry: several would stand in any order
        copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        for name in (WEIGHTS, BEST) if best else (WEIGHTS,):
            with replacing(self.directory / name) as unfinished:
                safetensors.torch.save_file(copies, unfinished, metadata=metadata)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._metrics.close()
        for tracker in self._trackers.values():
            tracker.close()


def read_config(directory: Path) -> dict[str, Any]:
    """The run's configuration, as a nested dictionary."""
    config = _read_config(directory)
    config.pop("made_with", None)
    return config


def is_exact(directory: Path) -> bool:
    """Whether the run is what it would have been without a stop; see `Run.mark_inexact`."""
    return _mark_of(directory, "exact") is not False


def is_finished(directory: Path) -> bool:
    """Whether the run came to its end, with all its files; see `Run.mark_finished`."""
    return _mark_of(directory, "finished") is True


def _mark_of(directory: Path, name: str) -> object:
    made_with = _read_config(directory).get("made_with")
    return made_with.get(name) if isinstance(made_with, dict) else None


def read_progress(directory: Path) -> tuple[int, float]:
    """Environment steps and seconds of the last line of `metrics.jsonl`; 0 and 0 if there is none yet.

    The end of the file alone is read, so that it may be asked often; a line that is damaged counts as none.
    """
    try:
        with (directory / METRICS).open("rb") as file:
            file.seek(-min(_LONGEST_LINE, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().split(b"\n")
        last = json.loads(lines[-2]) if len(lines) > 1 else {}
        return int(last["env_steps"]), float(last["seconds"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0, 0.0


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not path.is_file():
        raise RunError(f"{directory} is no run directory: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is no JSON: {_problem(error)}") from None
    if not isinstance(config, dict):
        raise RunError(f"{path}: given {type(config).__name__}, want an object")
    return config


def read_metrics(directory: Path) -> Iterator[dict[str, float | None]]:
    """The lines of `metrics.jsonl`; a last line that a kill cut short is left out."""
    path = directory / METRICS
    if not path.is_file():
        raise RunError(f"{directory} is no run directory: it has no {METRICS}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                metrics = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(f"{path}, line {number} is no JSON: {_problem(error)}") from None
            if not isinstance(metrics, dict):
                raise RunError(f"{path}, line {number}: given {type(metrics).__name__}, want an object")
            for name, value in metrics.items():
                if value is not None and not is_number(value):
                    given = f"{quoted(name)}: given {shown(value)}"
                    raise RunError(f"{path}, line {number}: {given}, want a finite number or null")
            yield metrics


def read_checkpoint(directory: Path, name: str = WEIGHTS) -> tuple[Counters, dict[str, Tensor]]:
    """A checkpoint, `WEIGHTS` or `BEST`: how far it is, and its tensors, on the CPU."""
    path = directory / name
    if not path.is_file():
        raise RunError(f"{directory} holds no checkpoint: it has no {name}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "counters" not in metadata:
                raise ValueError("it has no counters, which a checkpoint of endmark has")
            counters = counters_from(json.loads(metadata["counters"]))
            return counters, own_tensors(file)
    except (safetensors.SafetensorError, AttributeError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {_problem(error)}") from None


def counters_from(raw: object) -> Counters:
    """The counters that `Counters._asdict` gave; ValueError for anything else."""
    if not isinstance(raw, dict) or raw.keys() != set(Counters._fields):
        raise ValueError(f"counters: given {shown(raw)}, want {', '.join(Counters._fields)}")
    for name, value in raw.items():
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"counters: {name}: given {shown(value)}, want 0 <= count < 2**63")
    return Counters(**raw)


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float holds, and no bool."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer that is no float
        return False


def _problem(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else shortened(joined(error))


def _write(path: Path, config: Mapping[str, Any]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
