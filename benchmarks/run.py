"""The benchmark's sections, and the function that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.acting import acting, end_to_end, environments, rollout
from benchmarks.attention import attention
from benchmarks.floor import measure_floor
from benchmarks.machine import environment
from benchmarks.measure import QUICK, Effort
from benchmarks.padding import against_limit
from benchmarks.replay import replay
from benchmarks.results import Floor, Results, Row
from benchmarks.setting import Setting
from benchmarks.shapes import EIGHT_MARINES, TINY
from benchmarks.targets import targets
from benchmarks.update import against_batch_size, against_lengths, against_steps
from benchmarks.update_ppo import mappo
from endmark.ops.native import keep_memory


@dataclass(frozen=True)
class Section:
    """A group of rows. title: what they measure. ratio: the definition of their ratio.

    needs_floor: whether the rows refer to the machine's own speed.
    """

    title: str
    ratio: str
    rows: Callable[[Setting], Iterator[Row]]
    needs_floor: bool = False


_FASTER = "how often as fast as the baseline"
SECTIONS: dict[str, Section] = {
    "update": Section("Learner update, QMIX", _FASTER, against_lengths, needs_floor=True),
    "mappo": Section("Learner update, MAPPO: every epoch", _FASTER, mappo, needs_floor=True),
    "steps": Section("Update against real steps, in three mixes", _FASTER, against_steps),
    "batch-size": Section("Update against the number of episodes", _FASTER, against_batch_size),
    "padding": Section(
        "The same episodes under higher limits", "endmark against its lowest limit", against_limit
    ),
    "replay": Section("Replay", f"{_FASTER}; of memory, the share", replay, needs_floor=True),
    "attention": Section(
        "Attention agent, forward and backward", f"{_FASTER}; of memory, how often as little", attention
    ),
    "targets": Section("Targets", _FASTER, targets),
    "acting": Section("Acting, at once beside one by one", _FASTER, acting),
    "rollout": Section("Rollout, 8 environments beside 1", _FASTER, rollout),
    "environments": Section(
        "Rollout, beside its environments alone (baseline)",
        "the environments' share of a rollout's time",
        environments,
    ),
    "end-to-end": Section("Rollout and training, an update for each episode", _FASTER, end_to_end),
}


def section_names(only: str) -> list[str]:
    """The names in `only`, which are separated by commas; ValueError for an unknown one."""
    names = [name.strip() for name in only.split(",")]
    if unknown := set(names) - SECTIONS.keys():
        raise ValueError(f"only: given '{min(unknown)}', want some of {','.join(SECTIONS)}")
    return names


Observer = Callable[[str, int, int], None]
"""Called when a section begins, with its title, the number of sections done, and their total number."""


def run(only: Sequence[str], *, threads: int, quick: bool, observe: Observer) -> Results:
    """Measure these sections, in the order of `SECTIONS`.

    only: keys of `SECTIONS`. threads: torch's threads on the CPU during the run. quick: tiny shapes and two
    rounds, to check that all results agree.

    Disagreement if endmark and the baseline compute different results.
    """
    if threads < 1:
        raise ValueError(f"threads: given {threads}, want at least 1")
    keep_memory()  # as in training; it applies to the baseline too
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _run([name for name in SECTIONS if name in only], quick, observe)
    finally:
        torch.set_num_threads(before)


def _run(names: Sequence[str], quick: bool, observe: Observer) -> Results:
    shape, effort = (TINY, QUICK) if quick else (EIGHT_MARINES, Effort())
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    floors: dict[str, Floor] = {}
    setting = Setting(shape, effort, devices, floors, quick)
    needs_floor = any(SECTIONS[name].needs_floor for name in names)
    total = len(names) + needs_floor
    if needs_floor:
        observe("the machine itself", 0, total)
        for device in devices:
            floors[device] = measure_floor(shape, setting.share(0.5), quick=quick, device=device)
    rows: list[Row] = []
    for done, name in enumerate(names, start=total - len(names)):
        observe(SECTIONS[name].title, done, total)
        rows += SECTIONS[name].rows(setting)
    if quick:  # two rounds are too few to judge a goal
        rows = [replace(row, goal=None) for row in rows]
    return Results({**environment(), "shape": shape.name}, floors, rows)
