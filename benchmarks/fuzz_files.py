"""Damaged files against every reader, for `benchmarks.fuzz`."""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from benchmarks import fuzz_damage as damage
from endmark.algorithms import QMIXConfig
from endmark.algorithms.omg.prior import FILE as PRIOR
from endmark.algorithms.omg.prior import Prior, load_prior, save_prior
from endmark.disk import owned
from endmark.episodes import Bounds, EpisodeBatch, EpisodeSpec
from endmark.episodes.files import FileError, load_episodes, save_episodes
from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.source import read
from endmark.rollout.rollout import ReplayWarning
from endmark.run import CONFIG, METRICS, WEIGHTS, Counters, Run, RunError, read_checkpoint, read_metrics
from endmark.training import TrainConfig, load_config, train
from endmark.training.build import make_envs
from endmark.training.load import load
from endmark.training.parts import make_parts
from endmark.training.resume import restore
from endmark.training.state_file import STATE, load_state, save_state

SECONDS, MEBIBYTES = 20, 300
"""What one file may take at most: of time, and of memory on top of the most so far."""

Read = Callable[[Path], object]
Damage = Callable[[random.Random, bytes], bytes]


class Reader(NamedTuple):
    """A reader, its file's name and sound content, and how the structure of that is damaged."""

    name: str
    file: str
    content: bytes
    read: Read
    structure: Damage


class TooLong(BaseException):
    """A file took more than `SECONDS`."""


def check(reader: Reader, directory: Path, draw: random.Random) -> str | None:
    """Damage the file, read it, and say what is wrong with how that went; None if nothing is."""
    path = directory / reader.file
    if draw.random() < 0.5:
        damaged = damage.bytes_damaged(draw, reader.content)
    else:
        damaged = reader.structure(draw, reader.content)
        if draw.random() < 0.1:
            damaged = damage.bytes_damaged(draw, damaged)
    path.write_bytes(damaged)
    others = sorted(directory.iterdir())
    before = _peak_from_here()
    try:
        with warnings.catch_warnings(), _limited():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ReplayWarning)  # which is what it is to say
            reader.read(path)
    except (FileError, RunError) as error:
        if "\n" in str(error) or str(directory) not in str(error):
            return f"{type(error).__name__} of several lines or without a path: {error!r}"
    except (Exception, TooLong) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if (grown := (_peak() - before) / 1024) > MEBIBYTES:
        return f"took {grown:.0f} MiB of memory"
    if path.read_bytes() != damaged or sorted(directory.iterdir()) != others:
        return "an input was changed"
    return None


def _peak_from_here() -> int:
    """Forget the process's peak, where Linux allows it: one from long ago would hide what a reader takes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The process's largest resident memory so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@contextmanager
def readers(directory: Path) -> Iterator[list[Reader]]:
    """Every reader with a sound file of its kind; the run's files lie in `directory`."""
    batch = _episodes()
    padded = {name: tensor for name, tensor in batch.to_padded().items() if name != "mask"}
    npz, zipped, legacy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, **{name: tensor.numpy() for name, tensor in padded.items()})  # type: ignore[arg-type]
    torch.save(padded, zipped)
    torch.save(padded, legacy, _use_new_zipfile_serialization=False)
    save_episodes(batch, directory / "replay.safetensors")
    stored = (directory / "replay.safetensors").read_bytes()
    save_episodes(_episodes(Bounds.of([-1.0, 0.0], [1.0, 3.0], 2)), directory / "replay.safetensors")
    vectors = (directory / "replay.safetensors").read_bytes()

    config = TrainConfig(
        QMIXConfig(hidden_size=8, batch_size=2, replay_frames=200),
        "lbforaging:Foraging-5x5-2p-1f-v3",
        steps=60,
        n_envs=2,
        log_every=20,
        eval_episodes=2,
        episode_limit=6,
        store_replay=False,
        device="cpu",
    )
    train(config, directory / "made", lambda *_: None)
    made = {name: (directory / "made" / name).read_bytes() for name in (CONFIG, METRICS, WEIGHTS, STATE)}
    for name, content in made.items():
        (directory / name).write_bytes(content)
    state = load_state(directory)
    save_prior(Prior(3, 2, 4, "obs"), directory)
    prior = (directory / PRIOR).read_bytes()

    def torch_structure(draw: random.Random, _: bytes) -> bytes:
        return damage.torch_damaged(draw, padded)

    def config_structure(draw: random.Random, content: bytes) -> bytes:
        return damage.json_text(damage.json_damaged(draw, json.loads(content))).encode()

    def state_structure(draw: random.Random, content: bytes) -> bytes:
        if draw.random() < 0.3:
            return damage.safetensors_damaged(draw, content)
        with owned(directory / "scratch"):
            save_state(damage.state_damaged(draw, state), directory / "scratch")
            return (directory / "scratch" / STATE).read_bytes()

    with ExitStack() as stack:
        envs, other_envs = (stack.enter_context(closing(make_envs(config, config.n_envs))) for _ in range(2))
        parts = make_parts(config, envs, other_envs)._asdict()
        run = _Cut(directory)
        (directory / "scratch").mkdir()
        safe = damage.safetensors_damaged
        yield [
            Reader("npz", "batch.npz", npz.getvalue(), _inspect, damage.npz_damaged),
            Reader("pt", "batch.pt", zipped.getvalue(), _inspect, torch_structure),
            Reader("pth", "batch.pth", legacy.getvalue(), _inspect, torch_structure),
            Reader("safetensors", "batch.safetensors", safetensors.torch.save(padded), _inspect, safe),
            Reader("load_episodes", "replay.safetensors", stored, load_episodes, safe),
            Reader("replay", "replay.safetensors", stored, _inspect, safe),
            Reader("vectors", "replay.safetensors", vectors, load_episodes, safe),
            Reader("config", CONFIG, made[CONFIG], lambda path: load_config(path.parent), config_structure),
            Reader(
                "metrics",
                METRICS,
                made[METRICS],
                lambda path: list(read_metrics(path.parent)),
                damage.jsonl_damaged,
            ),
            Reader("checkpoint", WEIGHTS, made[WEIGHTS], lambda path: read_checkpoint(path.parent), safe),
            Reader("load", WEIGHTS, made[WEIGHTS], lambda path: _load(path, made[CONFIG]), safe),
            Reader("prior", PRIOR, prior, lambda path: load_prior(path.parent, 3, "obs"), safe),
            Reader("state", STATE, made[STATE], lambda path: load_state(path.parent), state_structure),
            Reader(
                "restore",
                STATE,
                made[STATE],
                lambda path: restore(parts, run, load_state(path.parent)),
                state_structure,
            ),
        ]


class _Cut(Run):
    """Stands for the run directory that `restore` puts back: no file of it is cut here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load_state_dict(self, state: Mapping[str, Any], counters: Counters) -> None:
        """As `Run` reads it."""
        _ = int(state["metrics_bytes"]), float(state["seconds"]), counters


def _episodes(bounds: Bounds | None = None) -> EpisodeBatch:
    """bounds: of actions that are vectors; None: numbered ones."""
    spec = EpisodeSpec.of(
        n_agents=2,
        n_actions=0 if bounds else 3,
        bounds=bounds,
        episode_limit=5,
        obs_shape=(2,),
        state_shape=(3,),
    )
    lengths = torch.tensor([3, 5, 1])
    n_frames = int(lengths.sum()) + 3
    fields: dict[str, Tensor] = {
        "obs": torch.randn(n_frames, 2, 2),
        "alive": torch.ones(n_frames, 2, dtype=torch.bool),
        "reward": torch.randn(n_frames),
        "state": torch.randn(n_frames, 3),
    }
    if bounds is None:
        fields["avail_actions"] = torch.ones(n_frames, 2, 3, dtype=torch.bool)
        fields["actions"] = torch.randint(0, 3, (n_frames, 2))
    else:
        low, high = bounds.tensors()
        fields["actions"] = low + torch.rand(n_frames, *low.shape) * (high - low)
    return EpisodeBatch(spec, fields, lengths, torch.tensor([True, False, True]))


def _inspect(path: Path) -> object:
    source = read(path)
    found = inspect(source)
    return json.dumps(found.to_json()), html_page(page_data(source, found))


def _load(path: Path, config: bytes) -> object:
    (path.parent / CONFIG).write_bytes(config)
    return load(path.parent)
