"""The cost of padding: the same episodes under increasing episode limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.agree import check_update
from benchmarks.border import padded_replay, padded_row
from benchmarks.measure import Spread, measure
from benchmarks.results import Goal, Row
from benchmarks.setting import Setting, draw, make_learner
from benchmarks.shapes import uniform, with_limit
from endmark.episodes import EpisodeReplay


def against_limit(setting: Setting) -> Iterator[Row]:
    """Sample and update, and memory of an episode, under 1, 10 and 100 times the limit.

    ratio: endmark's time or memory over its own under the lowest limit. The padded replay is indexed, then
    trimmed, the usual way.
    """
    shape, n = setting.shape, setting.shape.batch_size
    batch = draw(shape, uniform, n)
    learner = make_learner(shape)
    baseline, _, _ = check_update(learner, batch)
    limits = [shape.limit * factor for factor in (1, 10, 100)]
    ours: dict[str, Callable[[], object]] = {}
    theirs: dict[str, Callable[[], object]] = {}
    memory: dict[str, tuple[int, int]] = {}
    for limit in limits:
        spec = shape.spec(limit)
        replay, store = EpisodeReplay(spec, batch.n_frames), padded_replay(spec, n)
        replay.add(with_limit(batch, spec))
        for episode in batch.split():
            store.add(padded_row(episode), terminated=bool(episode.terminated))
        generator = torch.Generator().manual_seed(0)
        name = f"limit {limit}"
        ours[name] = lambda r=replay, g=generator: learner.update(r.sample(n, g))  # type: ignore[misc]
        theirs[name] = lambda s=store, g=generator: baseline.update(s.sample(n, g))  # type: ignore[misc]
        memory[name] = replay.n_bytes // n, store.n_bytes // n
    our_times, their_times = measure(ours, setting.share(2.0)), measure(theirs, setting.few())
    lowest = next(iter(ours))
    for name in ours:
        ratio = our_times.ratio(name, lowest)
        both = our_times[name], their_times[name]
        yield Row("padding", f"sample, update; {name}", "s", *both, ratio=ratio, goal=Goal(at_most=1.02))
    for name, (our_bytes, their_bytes) in memory.items():
        spreads = Spread.of([float(our_bytes)]), Spread.of([float(their_bytes)])
        ratio = Spread.of([our_bytes / memory[lowest][0]])
        yield Row(
            "padding", f"an episode's memory; {name}", "bytes", *spreads, ratio=ratio, goal=Goal(at_most=1.0)
        )
