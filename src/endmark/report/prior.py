"""What is known of a space of subgoals: a table, and frames beside what their codes decode to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from endmark.training.fit_prior import Fitted


def prior_table(report: Mapping[str, Any]) -> Table:
    """The figures of the report that `fit_prior.save` gives, a row each."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
    table.title = Text(f"subgoals of {report['env']}")
    rows = {
        "frames fitted to": f"{report['frames']:,}",
        "partners": str(len(report["partners"])),
        "active numbers of the code": f"{report['active']} of {report['code_size']}",
        "KL from N(0, 1), held out": f"{report['kl']:.1f} nats",
        "squared error, held out": f"{report['error']:.3f} (1 would be knowing nothing)",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def draw_prior(fitted: Fitted, path: Path) -> None:
    """Draw the error of each feature, and some held-out frames beside what they decode to.

    Needs matplotlib, the extra `plot`; ImportError without.
    """
    from matplotlib.figure import Figure

    seen = fitted.held_out[:: max(1, len(fitted.held_out) // 12)][:12]
    decoded = fitted.prior.decode(fitted.prior.encode(seen)[0])
    figure = Figure(figsize=(10, 7), layout="constrained")
    top, left, right = figure.subplot_mosaic([["top", "top"], ["left", "right"]]).values()
    numbers = range(len(fitted.feature_error))
    top.bar(numbers, fitted.prior.scale.tolist(), color="#d0d0d0", label="deviation: knowing nothing")
    top.bar(numbers, fitted.feature_error.tolist(), color="#1f77b4", width=0.5, label="error of the decoded")
    top.set(xlabel="feature", ylabel="root mean square", title="Held-out frames, decoded from their codes")
    top.legend(frameon=False)
    top.spines[["top", "right"]].set_visible(False)
    low, high = float(seen.min()), float(seen.max())
    for axes, values, title in [(left, seen, "seen"), (right, decoded, "decoded")]:
        shown = axes.imshow(values.tolist(), vmin=low, vmax=high, aspect="auto", cmap="viridis")
        axes.set(title=title, xlabel="feature", ylabel="frame")
    figure.colorbar(shown, ax=[left, right])
    figure.savefig(path, dpi=120)
