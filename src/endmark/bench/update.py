"""The learner's update: against the mix of lengths, and against the number of episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from endmark.bench.agree import check_update
from endmark.bench.floor import update_flops
from endmark.bench.measure import measure
from endmark.bench.results import Detail, Goal, Row
from endmark.bench.setting import Setting, draw, make_learner
from endmark.bench.shapes import Lengths, full, straggler, uniform

# Of the three mixes, full length first; on a GPU, of each.
GOALS = Goal(2.5), Goal(5.0), Goal(8.0)
GPU_GOAL = Goal(10.0)


def against_lengths(setting: Setting) -> Iterator[Row]:
    """Every mix of lengths, on every device."""
    for device in setting.devices:
        for (what, mix), goal in zip(_mixes(setting.shape.limit).items(), GOALS, strict=True):
            row = _row(setting, mix, setting.shape.batch_size, device)
            yield replace(row, section="update", what=what, goal=goal if device == "cpu" else GPU_GOAL)


def against_steps(setting: Setting) -> Iterator[Row]:
    """Every mix of lengths at several numbers of episodes: time against real steps, however they come."""
    for what, mix in _mixes(setting.shape.limit).items():
        for n in (2, 4) if setting.quick else (8, 16, 32, 64):
            row = _row(replace(setting, effort=setting.share(0.25)), mix, n, "cpu")
            details = {**row.details, "mix": what}
            yield replace(row, section="steps", what=f"{n} x {what}", details=details)


def against_batch_size(setting: Setting) -> Iterator[Row]:
    """More and more episodes an update, of uniform lengths."""
    for n in (2, 4) if setting.quick else (8, 32, 128, 512):
        effort = setting.few() if n > 100 else setting.share(0.5)
        row = _row(replace(setting, effort=effort), uniform, n, "cpu")
        yield replace(row, section="batch-size", what=f"{n} episodes")


def _mixes(limit: int) -> dict[str, Lengths]:
    """The mixes of lengths, named by their numbers of steps."""
    return {
        f"all {limit} steps": full,
        f"uniform {limit // 6}..{limit * 5 // 6}": uniform,
        f"one {limit}, rest {limit // 12}..{limit * 5 // 12}": straggler,
    }


def _row(setting: Setting, lengths: Lengths, n: int, device: str) -> Row:
    shape = setting.shape
    learner = make_learner(shape, device)
    # Agents that leave are checked, too, though they are not timed: it is in them that a mask errs.
    leaving = draw(shape, lengths, min(n, shape.batch_size), leaves=True, seed=1)
    check_update(learner, leaving.to(device))
    batch = draw(shape, lengths, n).to(device)
    baseline, padded, distance = check_update(learner, batch)
    work = {"endmark": lambda: learner.update(batch), "baseline": lambda: baseline.update(padded)}
    times = measure(work, setting.effort, device=device)
    flops = update_flops(shape, batch.n_frames, batch.n_steps)
    details: dict[str, Detail] = {
        "n_episodes": n,
        "n_steps": batch.n_steps,
        "padded_steps": (padded.mask.shape[1] - 1) * n,
        "flops": flops,
        "gradient_distance": distance,
    }
    for name in work:
        details[f"{name}_flops_per_second"] = flops / times[name].median
        if floor := setting.floors.get(device):
            details[f"{name}_of_gemm"] = flops / times[name].median / floor.gemm.median
    ratio = times.ratio("baseline", "endmark")
    both = times["endmark"], times["baseline"]
    return Row("update", "", "s", *both, ratio=ratio, device=device, details=details)
