"""The learner's update, for several distributions of lengths and numbers of episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.agree import check_update
from benchmarks.floor import update_flops
from benchmarks.measure import Name, Times, Work, measure
from benchmarks.results import Detail, Goal, Row
from benchmarks.setting import Setting, draw, make_learner
from benchmarks.shapes import Lengths, full, straggler, uniform

WHO = "endmark", "baseline"
# Goals for the three distributions, in the order of `mixes`; on a GPU one goal for all.
GOALS = Goal(2.5), Goal(5.0), Goal(8.0)
GPU_GOAL = Goal(10.0)


def against_lengths(setting: Setting) -> Iterator[Row]:
    """An update for each distribution of lengths, on every device."""
    for device in setting.devices:
        for (what, mix), goal in zip(mixes(setting.shape.limit).items(), GOALS, strict=True):
            pair = _pair(setting, mix, setting.shape.batch_size, device)
            row = _row(setting, pair, measure(pair.work, setting.effort, device=device), WHO, device)
            yield replace(row, section="update", what=what, goal=goal if device == "cpu" else GPU_GOAL)


def against_steps(setting: Setting) -> Iterator[Row]:
    """An update for each distribution of lengths and several numbers of episodes: time against real steps."""
    pairs = {
        (n, what): _pair(setting, mix, n, "cpu")
        for what, mix in mixes(setting.shape.limit).items()
        for n in ((2, 4) if setting.quick else (8, 16, 32, 64))
    }
    # All are interleaved, so that load on the machine does not distort the line through the points.
    work = {(*key, who): run for key, pair in pairs.items() for who, run in pair.work.items()}
    times = measure(work, setting.share(3.0))
    for (n, what), pair in pairs.items():
        names = (n, what, "endmark"), (n, what, "baseline")
        row = _row(setting, pair, times, names, "cpu")
        yield replace(row, section="steps", what=f"{n} x {what}", details={**row.details, "mix": what})


def against_batch_size(setting: Setting) -> Iterator[Row]:
    """An update of more and more episodes with uniform lengths."""
    for n in (2, 4) if setting.quick else (8, 32, 128, 512):
        effort = setting.few() if n > 100 else setting.share(0.5)
        pair = _pair(setting, uniform, n, "cpu")
        row = _row(setting, pair, measure(pair.work, effort), WHO, "cpu")
        yield replace(row, section="batch-size", what=f"{n} episodes")


def mixes(limit: int) -> dict[str, Lengths]:
    """The distributions of lengths, named by their numbers of steps."""
    return {
        f"all {limit} steps": full,
        f"uniform {limit // 6}..{limit * 5 // 6}": uniform,
        f"one {limit}, rest {limit // 12}..{limit * 5 // 12}": straggler,
    }


@dataclass(frozen=True)
class _Pair:
    """One update of the same episodes by endmark and by the baseline. details: of these episodes."""

    work: dict[str, Work]
    details: dict[str, Detail]


def _pair(setting: Setting, lengths: Lengths, n: int, device: str) -> _Pair:
    """Both learners' updates, after checking that they compute the same."""
    shape = setting.shape
    learner = make_learner(shape, device)
    # Agents that leave are where a mask errs. They are checked, though not timed.
    leaving = draw(shape, lengths, min(n, shape.batch_size), leaves=True, seed=1)
    check_update(learner, leaving.to(device))
    batch = draw(shape, lengths, n).to(device)
    baseline, padded, distance = check_update(learner, batch)
    details: dict[str, Detail] = {
        "n_episodes": n,
        "n_steps": batch.n_steps,
        "padded_steps": (padded.mask.shape[1] - 1) * n,
        "flops": update_flops(shape, batch.n_frames, batch.n_steps),
        "gradient_distance": distance,
    }
    work: dict[str, Work] = {
        "endmark": lambda: learner.update(batch),
        "baseline": lambda: baseline.update(padded),
    }
    return _Pair(work, details)


def _row(setting: Setting, pair: _Pair, times: Times[Name], names: tuple[Name, Name], device: str) -> Row:
    """A row of the table. names: endmark's and the baseline's keys in `times`."""
    details = dict(pair.details)
    for who, name in zip(WHO, names, strict=True):
        speed = float(pair.details["flops"]) / times[name].median
        details[f"{who}_flops_per_second"] = speed
        if floor := setting.floors.get(device):
            details[f"{who}_of_gemm"] = speed / floor.gemm.median
    ours, theirs = names
    ratio = times.ratio(theirs, ours)
    return Row("update", "", "s", times[ours], times[theirs], ratio=ratio, device=device, details=details)
