"""An episode on its grid, with the subgoals that the learner inferred in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from endmark.envs import Layout
from endmark.envs.boards import AGENTS, FOOD, GROUND, INK, LINES
from endmark.training.goals import Places, Subgoals

MOST, IN_A_ROW = 12, 6
"""Boards of a picture, and of one row of it."""
THOUGHT = "#d6006c"
"""What the learner thinks of."""


def draw_episode(title: str, subgoals: Subgoals, places: Places, episode: int, path: Path) -> None:
    """Draw boards of an episode, at most `MOST`, evenly from its first step to its last.

    places: with a layout. Every board shows foods and agents, the others' way through the next H frames, and
    as circles what the inferred subgoal decodes to: the others, and foods that it holds to be there.
    Needs matplotlib, the extra `plot`; ImportError without.
    """
    from matplotlib.figure import Figure

    layout, offset = places.layout, places.offset
    assert layout is not None
    assert offset is not None
    frames = subgoals.frames(episode)
    first = int(offset[episode])
    seen, decoded = subgoals.seen[frames, first:], subgoals.decoded[frames, first:]
    n_steps = len(seen) - 1
    n_boards = min(n_steps, MOST)
    shown = sorted({round(i * (n_steps - 1) / max(1, n_boards - 1)) for i in range(n_boards)})
    rows = -(-len(shown) // IN_A_ROW)
    cols = -(-len(shown) // rows)
    figure = Figure(figsize=(max(2.6 * cols, 7.8), 2.75 * rows + 0.9), layout="constrained")
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    boards = figure.subplots(rows, cols, squeeze=False).flatten()
    seat = int(subgoals.seat[episode])
    for axes, t in zip(boards, shown, strict=False):
        _board(axes, layout, f"step {t}")
        _things(axes, layout, seen[t], seat)
        _ways(axes, layout, seen[t : t + subgoals.horizon + 1], seat)
        _thoughts(axes, layout, decoded[t])
    for axes in boards[len(shown) :]:
        axes.set_axis_off()
    figure.legend(handles=_legend(subgoals.horizon, seat, len(layout.others)), loc="outside lower center",
                  ncols=5, frameon=False, fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=110)


def others_of(seat: int, n_others: int) -> list[int]:
    """The numbers of the other agents, in ascending order."""
    return [agent for agent in range(n_others + 1) if agent != seat]


def _board(axes: Any, layout: Layout, title: str) -> None:
    axes.set(xlim=(-0.5, layout.cols - 0.5), ylim=(layout.rows - 0.5, -0.5), aspect="equal", facecolor=GROUND)
    axes.set_xticks([i - 0.5 for i in range(layout.cols)], [])
    axes.set_yticks([i - 0.5 for i in range(layout.rows)], [])
    axes.grid(color=LINES, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_color(LINES)
    axes.set_title(title, fontsize=9, color=INK, pad=3)


def _things(axes: Any, layout: Layout, seen: Tensor, seat: int) -> None:
    """What is there."""
    for row, col, level in seen[torch.tensor(layout.foods, dtype=torch.int64).view(-1, 3)].tolist():
        if level > 0:
            axes.plot(col, row, "s", color=FOOD, markersize=7.5, zorder=2)
    row, col = seen[list(layout.own)].tolist()
    agents = [(seat, row, col)]
    for agent, pair in zip(others_of(seat, len(layout.others)), layout.others, strict=True):
        agents.append((agent, *seen[list(pair)].tolist()))
    for agent, row, col in agents:
        axes.plot(col, row, "o", color=AGENTS[agent % len(AGENTS)], markersize=12, zorder=4)
        axes.annotate(str(agent), (col, row), ha="center", va="center_baseline", color="white", fontsize=8,
                      zorder=5)  # fmt: skip


def _ways(axes: Any, layout: Layout, seen: Tensor, seat: int) -> None:
    """Where the others go: a line that ends in a dot."""
    for agent, pair in zip(others_of(seat, len(layout.others)), layout.others, strict=True):
        colour = AGENTS[agent % len(AGENTS)]
        rows, cols = seen[:, pair[0]].tolist(), seen[:, pair[1]].tolist()
        axes.plot(cols, rows, color=colour, linewidth=2, alpha=0.8, zorder=3)
        axes.plot(cols[-1], rows[-1], "o", color=colour, markersize=5, zorder=3)


def _thoughts(axes: Any, layout: Layout, decoded: Tensor) -> None:
    """What the subgoal decodes to."""
    for row, col, level in decoded[torch.tensor(layout.foods, dtype=torch.int64).view(-1, 3)].tolist():
        if level > 0.5:
            axes.plot(col, row, "s", markersize=12, markerfacecolor="none", markeredgecolor=THOUGHT,
                      alpha=0.55, markeredgewidth=1.4, zorder=6)  # fmt: skip
    for row_feature, col_feature in layout.others:
        row, col = float(decoded[row_feature]), float(decoded[col_feature])
        axes.plot(col, row, "o", color=THOUGHT, markersize=15, alpha=0.22, markeredgewidth=0, zorder=6)
        axes.plot(col, row, "o", markersize=15, markerfacecolor="none", markeredgecolor=THOUGHT,
                  alpha=0.7, markeredgewidth=1.6, zorder=6)  # fmt: skip


def _legend(horizon: int, seat: int, n_others: int) -> list[Any]:
    from matplotlib.lines import Line2D

    others = others_of(seat, n_others)
    colour = AGENTS[others[0] % len(AGENTS)]
    named = "the other" if n_others == 1 else "the others"
    return [
        Line2D([], [], marker="o", linestyle="", color=AGENTS[seat % len(AGENTS)], markersize=10,
               label=f"learner ({seat})"),
        Line2D([], [], marker="o", color=colour, markersize=6, linewidth=2,
               label=f"{named}, and the next {horizon} steps"),
        Line2D([], [], marker="s", linestyle="", color=FOOD, markersize=8, label="food"),
        Line2D([], [], marker="o", linestyle="", color=THOUGHT, alpha=0.5, markersize=12,
               label=f"subgoal: {named}"),
        Line2D([], [], marker="s", linestyle="", markerfacecolor="none", markeredgecolor=THOUGHT,
               markersize=10, label="subgoal: food"),
    ]  # fmt: skip
