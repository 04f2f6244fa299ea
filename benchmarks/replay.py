"""Replay: memory of an episode, sampling a batch, adding an episode."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks import with_torchrl
from benchmarks.agree import Disagreement, same_fields
from benchmarks.baseline import PaddedBatch
from benchmarks.baseline_replay import PaddedReplay
from benchmarks.border import padded_batch, padded_replay, padded_row
from benchmarks.measure import Spread, Work, measure
from benchmarks.results import Detail, Goal, Row
from benchmarks.setting import Setting, draw
from benchmarks.shapes import third
from endmark.episodes import EpisodeReplay


def replay(setting: Setting) -> Iterator[Row]:
    """Memory, sample and add, with the same episodes in both replays; mean length: a third of the limit."""
    shape, n = setting.shape, setting.shape.batch_size
    batch = draw(shape, third, 8 if setting.quick else 256)
    spec, count = batch.spec, batch.n_episodes
    ours, store = EpisodeReplay(spec, batch.n_frames), padded_replay(spec, count)
    ours.add(batch)
    parts = batch.split()
    rows = [padded_row(part) for part in parts]
    for part, row in zip(parts, rows, strict=True):
        store.add(row, terminated=bool(part.terminated))
    _check(ours, store, count)

    bytes_each = Spread.of([ours.n_bytes / count]), Spread.of([store.n_bytes / count])
    share = Spread.of([ours.n_bytes / store.n_bytes])
    details = {"mean_length": batch.n_steps / count, "limit": float(spec.episode_limit)}
    what = "an episode's memory"
    yield Row("replay", what, "bytes", *bytes_each, ratio=share, goal=Goal(at_most=0.35), details=details)

    ours_generator, generator, other_generator = (torch.Generator().manual_seed(0) for _ in range(3))
    sample: dict[str, Work] = {
        "endmark": lambda: ours.sample(n, ours_generator),
        "baseline": lambda: store.sample(n, generator),
        "trimmed": lambda: store.sample_trimmed(n, other_generator),
    }
    if torchrl := with_torchrl.replay_sampler(batch, n):
        sample["torchrl"] = torchrl
    times = measure(sample, setting.share(0.5))
    moved = 2 * n * ours.n_bytes / count
    speed: dict[str, Detail] = {"bytes": moved, "bytes_per_second": moved / times["endmark"].median}
    if floor := setting.floors.get("cpu"):
        speed["of_copy"] = moved / times["endmark"].median / floor.copy.median
    yield Row(
        "replay",
        f"sample {n} episodes",
        "s",
        times["endmark"],
        times["baseline"],
        times.ratio("baseline", "endmark"),
        Goal(1.0),
        times["torchrl"] if torchrl else None,
        details=speed,
    )
    ratio = times.ratio("trimmed", "endmark")
    what = f"sample {n}, cut first"
    yield Row("replay", what, "s", times["endmark"], times["trimmed"], ratio)

    ended = bool(parts[0].terminated)
    add: dict[str, Work] = {
        "endmark": lambda: ours.add(parts[0]),
        "baseline": lambda: store.add(rows[0], terminated=ended),
    }
    times = measure(add, setting.share(0.25))
    yield Row(
        "replay",
        f"add {parts[0].n_steps} steps",
        "s",
        times["endmark"],
        times["baseline"],
        times.ratio("baseline", "endmark"),
    )


def _check(ours: EpisodeReplay, store: PaddedReplay, count: int) -> None:
    """Check that both replays hold the same episodes; Disagreement otherwise."""
    if len(ours) != count or len(store) != count:
        raise Disagreement(f"replay: {len(ours)} and {len(store)} episodes stored of {count}; not timed")
    want, given = (
        _defined(batch) for batch in (padded_batch(ours.episodes()), store.rows(torch.arange(count)))
    )
    same_fields("replay", given, want)


def _defined(batch: PaddedBatch) -> dict[str, Tensor]:
    """The batch's fields by name; step fields at real steps only, since they are undefined elsewhere."""
    fields = {name: field for name, field in vars(batch).items() if field is not None}
    return fields | {name: fields[name][batch.mask] for name in ("reward", "actions", "actions_onehot")}
