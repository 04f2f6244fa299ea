"""What `endmark goals` shows: a table, the same as JSON, and a picture with the run's log beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from endmark.report.curve import Curve, steps_text
from endmark.report.run_curves import points_of
from endmark.rollout import Interval
from endmark.run import METRICS, read_metrics
from endmark.training.goal_measures import Compared
from endmark.training.goals import Measured

CHOSEN = "chosen_"
LOGGED = {
    "kl": "KL from the selected subgoal, nats",
    "reconstruction": "the model's squared error",
    "told": "share of steps told, eq. (8)",
    "same_goal": "share of steps that keep a subgoal",
    "goal_error": "squared error by the selected frame",
    "stay_error": "the same, if all stays",
}
"""Keys of metrics.jsonl, and how they are called here."""
LAST_LINES = 10
INFERRED, STAY, OWN, KS = "#2a6f97", "#c1666b", "#8a8a8a", "viridis"


def logged_curves(directory: Path) -> dict[str, Curve]:
    """What a run's log says of its subgoals; what it lacks is left out. RunError for a damaged log."""
    lines = list(read_metrics(directory)) if (directory / METRICS).exists() else []
    chosen = sorted(
        {name for line in lines for name in line if name.removeprefix(CHOSEN).isdecimal()},
        key=lambda name: int(name.removeprefix(CHOSEN)),
    )
    curves = {name: points_of(lines, name) for name in (*LOGGED, *chosen)}
    return {name: curve for name, curve in curves.items() if curve}


def last_means(curves: Mapping[str, Curve]) -> dict[str, float]:
    """The mean of the last lines of each curve."""
    means = {}
    for name, curve in curves.items():
        values = [value for _, value in curve[-LAST_LINES:]]
        means[name] = sum(values) / len(values)
    return means


def goals_json(about: Mapping[str, Any], measured: Measured, curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Everything that the tables say, and `about` the run. An interval that is not known has nulls."""
    by_k = [{"k": k, **_json(error)} for k, error in enumerate(measured.errors, 1)]
    report: dict[str, Any] = {
        **about,
        "episodes": measured.episodes,
        "steps": measured.steps,
        "horizon": measured.horizon,
        "error": by_k,
        "own_error": _interval_json(measured.own_error),
    }
    if measured.distances is not None:
        report["distance"] = [{"k": k, **_json(d)} for k, d in enumerate(measured.distances, 1)]
    if measured.hits is not None:
        report["hits"] = {name: _json(hit) for name, hit in measured.hits._asdict().items()}
    return report | {"log": last_means(curves)}


def _json(compared: Compared) -> dict[str, Any]:
    return {name: _interval_json(interval) for name, interval in compared._asdict().items()}


def _interval_json(interval: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in interval._asdict().items()}


def goals_tables(title: str, measured: Measured) -> list[Table]:
    """Each measure of inferred subgoals, of frames that stay as they are, and the difference of the two.

    A table for errors, and where places of the others are known, one for distances and one for hits.
    """
    errors = {f"{k} ahead": error for k, error in enumerate(measured.errors, 1)}
    about = f"{title}, {measured.episodes} episodes, {measured.steps:,} steps"
    what = "squared error of the decoded frame, in deviations of its features"
    tables = [_compared_table(f"{about}\n{what}", errors)]
    tables[0].add_row("own code", _cell(measured.own_error))
    if measured.distances is not None:
        distances = {f"{k} ahead": distance for k, distance in enumerate(measured.distances, 1)}
        tables.append(_compared_table("distance of the others' decoded places", distances))
    if measured.hits is not None:
        ratio, later, within = measured.hits
        hits = {"hit ratio": ratio, "later": later, f"within {measured.horizon}": within}
        tables.append(_compared_table("share of the others' decoded cells that come true", hits))
    return tables


def _compared_table(title: str, rows: Mapping[str, Compared]) -> Table:
    # As narrow as it can be: three intervals side by side just fit a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", title_style="bold")
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    table.add_column("", no_wrap=True)
    for column in Compared._fields:
        words = "all stays" if column == "stay" else column
        table.add_column(words, justify="right", no_wrap=True)
    for name, compared in rows.items():
        table.add_row(name, *map(_cell, compared))
    return table


def _cell(interval: Interval) -> str:
    if interval.low == -math.inf:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ({interval.low:.3f}, {interval.high:.3f})"


def log_table(curves: Mapping[str, Curve]) -> Table:
    """The end of the run's log."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
    n_lines = max(min(LAST_LINES, len(curve)) for curve in curves.values())
    table.title = Text(f"training, mean of the last {n_lines} lines")
    means = last_means(curves)
    for name, words in LOGGED.items():
        if name in means:
            table.add_row(words, f"{means[name]:.3f}")
    chosen = [f"{mean:.0%}" for name, mean in means.items() if name.startswith(CHOSEN)]
    if chosen:
        table.add_row(f"selected frame, 1 to {len(chosen)} ahead", " ".join(chosen))
    return table


def draw_goals(title: str, measured: Measured, curves: Mapping[str, Curve], path: Path) -> None:
    """Draw errors by k, how places come true, and from the log the selected k, KL and reconstruction.

    Needs matplotlib, the extra `plot`; ImportError without.
    """
    from matplotlib.figure import Figure

    top = ["error"] if measured.hits is None else ["error", "distance", "hits"]
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    grid = figure.add_gridspec(2, 1)
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axes = dict(zip(top, upper.subplots(1, len(top), squeeze=False)[0], strict=True))
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    _draw_by_k(axes["error"], measured.errors)
    axes["error"].axhline(measured.own_error.mean, color=OWN, linestyle=":", label="a frame's own code")
    axes["error"].set(title="decoded frame against the one k later", ylabel="squared error (deviations)")
    axes["error"].legend(frameon=False)
    if measured.hits is not None:
        _draw_by_k(axes["distance"], measured.distances or ())
        axes["distance"].set(title="others' decoded places against those k later", ylabel="distance")
        axes["distance"].legend(frameon=False)
        _draw_hits(axes["hits"], measured)
    chosen, kl, reconstruction = lower.subplots(1, 3)
    _draw_chosen(chosen, curves)
    _draw_curves(kl, curves, {"kl": INFERRED}, "KL from the selected subgoal, nats")
    of = {"reconstruction": OWN, "goal_error": INFERRED, "stay_error": STAY}
    _draw_curves(reconstruction, curves, of, "squared errors in training")
    for each in (*axes.values(), chosen, kl, reconstruction):
        each.spines[["top", "right"]].set_visible(False)
    for each in (chosen, kl, reconstruction):
        each.xaxis.set_major_formatter(lambda x, _: steps_text(x))
    figure.savefig(path, dpi=120)


def _draw_by_k(axes: Any, by_k: Sequence[Compared]) -> None:
    ks = range(1, len(by_k) + 1)
    for name, colour in [("stay", STAY), ("inferred", INFERRED)]:
        intervals = [getattr(compared, name) for compared in by_k]
        words = "all stays as it is" if name == "stay" else "inferred subgoal"
        means = [interval.mean for interval in intervals]
        axes.errorbar(ks, means, _arms(intervals), color=colour, marker="o", capsize=3, label=words)
    axes.set(xlabel="steps ahead, k", xticks=list(ks))
    axes.set_ylim(bottom=0)


def _arms(intervals: Sequence[Interval]) -> list[list[float]]:
    """Below and above the means; 0 where an interval is not known."""
    arms = [[i.mean - i.low, i.high - i.mean] if i.low > -math.inf else [0.0, 0.0] for i in intervals]
    return [[max(0.0, arm[side]) for arm in arms] for side in (0, 1)]


def _draw_hits(axes: Any, measured: Measured) -> None:
    assert measured.hits is not None
    rows = measured.hits
    for shift, name, colour in [(-0.2, "inferred", INFERRED), (0.2, "stay", STAY)]:
        intervals = [getattr(compared, name) for compared in rows]
        at = [i + shift for i in range(len(rows))]
        words = "inferred subgoal" if name == "inferred" else "they stay where they are"
        means = [interval.mean for interval in intervals]
        axes.bar(at, means, 0.38, color=colour, yerr=_arms(intervals), capsize=3, label=words)
    labels = ["hit ratio", "comes true\nlater", f"comes true\nwithin {measured.horizon}"]
    axes.set_xticks(range(len(rows)), labels)
    axes.set(title="others' decoded cells", ylim=(0, 1.2), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.legend(frameon=False, loc="upper left")


def _draw_chosen(axes: Any, curves: Mapping[str, Curve]) -> None:
    import matplotlib

    axes.set(title="selected frame, steps ahead", xlabel="environment steps", ylabel="share of steps")
    chosen = {name.removeprefix(CHOSEN): curve for name, curve in curves.items() if name.startswith(CHOSEN)}
    if not chosen:
        return _say_nothing(axes)
    longest = min(len(curve) for curve in chosen.values())
    steps = [x for x, _ in next(iter(chosen.values()))[:longest]]
    shares = [[share for _, share in curve[:longest]] for curve in chosen.values()]
    colours = matplotlib.colormaps[KS]([0.1 + 0.85 * i / len(chosen) for i in range(len(chosen))])
    if longest == 1:
        steps, shares = [0.0, *steps], [share * 2 for share in shares]  # a point alone has no area
    axes.stackplot(steps, shares, colors=colours, labels=[f"k = {k}" for k in chosen])
    axes.set(xlim=(steps[0], steps[-1]), ylim=(0, 1))
    axes.legend(loc="upper right", fontsize=8, framealpha=0.85, reverse=True)
    return None


def _draw_curves(axes: Any, curves: Mapping[str, Curve], names: Mapping[str, str], title: str) -> None:
    axes.set(title=title, xlabel="environment steps")
    words = {
        "reconstruction": "reconstruction",
        "goal_error": "decoded subgoal, by the selected frame",
        "stay_error": "all stays as it is, by the selected frame",
    }
    shown = [name for name in names if name in curves]
    for name in shown:
        dot = "o" if len(curves[name]) == 1 else None
        axes.plot(*zip(*curves[name], strict=True), color=names[name], label=words.get(name), marker=dot)
    if not shown:
        return _say_nothing(axes)
    axes.set_ylim(bottom=0)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8)
    return None


def _say_nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "not in the run's log", transform=axes.transAxes, ha="center", color=OWN)
    axes.set(xticks=[], yticks=[])
