"""The learner's update: against the mix of lengths, and against the number of episodes."""

from __future__ import annotations

from collections.abc import Iterator

from endmark.bench.agree import check_update
from endmark.bench.floor import update_flops
from endmark.bench.measure import Effort, measure
from endmark.bench.results import Goal, Row
from endmark.bench.setting import Setting, draw, make_learner
from endmark.bench.shapes import MIXES, Lengths, full, straggler, uniform

GOALS: dict[Lengths, Goal] = {full: Goal(2.5), uniform: Goal(5), straggler: Goal(8)}
GPU_GOAL = Goal(10)


def against_lengths(setting: Setting) -> Iterator[Row]:
    """Every mix of lengths, on every device."""
    for device in setting.devices:
        for name, mix in MIXES.items():
            goal = GOALS[mix] if device == "cpu" else GPU_GOAL
            n = setting.shape.batch_size
            yield _row("update", setting, mix, n, name, setting.effort, device, goal)


def against_batch_size(setting: Setting) -> Iterator[Row]:
    """More and more episodes an update, of uniform lengths."""
    for n in (2, 4) if setting.quick else (8, 32, 128, 512):
        effort = setting.few() if n > 100 else setting.share(0.5)
        yield _row("batch-size", setting, uniform, n, f"{n} episodes", effort, "cpu", None)


def _row(
    section: str,
    setting: Setting,
    mix: Lengths,
    n: int,
    what: str,
    effort: Effort,
    device: str,
    goal: Goal | None,
) -> Row:
    shape = setting.shape
    learner = make_learner(shape, device)
    check_update(learner, draw(shape, mix, min(n, shape.batch_size), leaves=True, seed=1).to(device))
    batch = draw(shape, mix, n).to(device)
    baseline, padded, distance = check_update(learner, batch)
    work = {"endmark": lambda: learner.update(batch), "baseline": lambda: baseline.update(padded)}
    times = measure(work, effort, device=device)
    flops = update_flops(shape, batch.n_frames, batch.n_steps)
    details: dict[str, float | str] = {
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
    return Row(section, what, "s", *both, ratio=ratio, goal=goal, device=device, details=details)
