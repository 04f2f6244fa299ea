"""Pictures and tables for people."""

from endmark.report.console import ProbeDisplay, TrainingDisplay, summary_table
from endmark.report.curve import Curve, learning_curve
from endmark.report.film import Film, filmed
from endmark.report.plot import draw_runs, points_table
from endmark.report.run_curves import RunCurve, best_of, grouped, points_of, read_run
from endmark.report.values import ValuesBeside

__all__ = [
    "Curve",
    "Film",
    "ProbeDisplay",
    "RunCurve",
    "TrainingDisplay",
    "ValuesBeside",
    "best_of",
    "draw_runs",
    "filmed",
    "grouped",
    "learning_curve",
    "points_of",
    "points_table",
    "read_run",
    "summary_table",
]
