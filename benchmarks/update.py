"""The learner's update: against the mix of lengths, and against the number of episodes."""

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
# Of the three mixes, full length first; on a GPU, of each.
GOALS = Goal(2.5), Goal(5.0), Goal(8.0)
GPU_GOAL = Goal(10.0)


def against_lengths(setting: Setting) -> Iterator[Row]:
    """Every mix of lengths, on every device."""
    for device in setting.devices:
        for (what, mix), goal in zip(_mixes(setting.shape.limit).items(), GOALS, strict=True):
            duel = _duel(setting, mix, setting.shape.batch_size, device)
            row = _row(setting, duel, measure(duel.work, setting.effort, device=device), WHO, device)
            yield replace(row, section="update", what=what, goal=goal if device == "cpu" else GPU_GOAL)


def against_steps(setting: Setting) -> Iterator[Row]:
    """Every mix of lengths at several numbers of episodes: time against real steps, however they come."""
    duels = {
        (n, what): _duel(setting, mix, n, "cpu")
        for what, mix in _mixes(setting.shape.limit).items()
        for n in ((2, 4) if setting.quick else (8, 16, 32, 64))
    }
    # All in turn: the points of one line should not have been taken in different moods of the machine.
    work = {(*key, who): run for key, duel in duels.items() for who, run in duel.work.items()}
    times = measure(work, setting.share(3.0))
    for (n, what), duel in duels.items():
        names = (n, what, "endmark"), (n, what, "baseline")
        row = _row(setting, duel, times, names, "cpu")
        yield replace(row, section="steps", what=f"{n} x {what}", details={**row.details, "mix": what})


def against_batch_size(setting: Setting) -> Iterator[Row]:
    """More and more episodes an update, of uniform lengths."""
    for n in (2, 4) if setting.quick else (8, 32, 128, 512):
        effort = setting.few() if n > 100 else setting.share(0.5)
        duel = _duel(setting, uniform, n, "cpu")
        row = _row(setting, duel, measure(duel.work, effort), WHO, "cpu")
        yield replace(row, section="batch-size", what=f"{n} episodes")


def _mixes(limit: int) -> dict[str, Lengths]:
    """The mixes of lengths, named by their numbers of steps."""
    return {
        f"all {limit} steps": full,
        f"uniform {limit // 6}..{limit * 5 // 6}": uniform,
        f"one {limit}, rest {limit // 12}..{limit * 5 // 12}": straggler,
    }


@dataclass(frozen=True)
class _Duel:
    """An update by each, of the same episodes; `details` on those."""

    work: dict[str, Work]
    details: dict[str, Detail]


def _duel(setting: Setting, lengths: Lengths, n: int, device: str) -> _Duel:
    """Both learners, after it was seen that they do the same."""
    shape = setting.shape
    learner = make_learner(shape, device)
    # Agents that leave are checked, too, though they are not timed: it is in them that a mask errs.
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
    return _Duel(work, details)


def _row(setting: Setting, duel: _Duel, times: Times[Name], names: tuple[Name, Name], device: str) -> Row:
    """names: endmark's and the baseline's, among the times."""
    details = dict(duel.details)
    for who, name in zip(WHO, names, strict=True):
        speed = float(duel.details["flops"]) / times[name].median
        details[f"{who}_flops_per_second"] = speed
        if floor := setting.floors.get(device):
            details[f"{who}_of_gemm"] = speed / floor.gemm.median
    ours, theirs = names
    ratio = times.ratio(theirs, ours)
    return Row("update", "", "s", times[ours], times[theirs], ratio=ratio, device=device, details=details)
