"""Pictures and tables for people."""

from endmark.report.console import ProbeDisplay, TrainingDisplay, summary_table
from endmark.report.curve import Curve, learning_curve
from endmark.report.plot import draw_runs, points_table
from endmark.report.run_curves import RunCurve, best_of, grouped, points_of, read_run

__all__ = [
    "Curve",
    "ProbeDisplay",
    "RunCurve",
    "TrainingDisplay",
    "best_of",
    "draw_runs",
    "grouped",
    "learning_curve",
    "points_of",
    "points_table",
    "read_run",
    "summary_table",
]
