"""Pictures and tables for people."""

from endmark.report.console import CountsDisplay, ProbeDisplay, TrainingDisplay, summary_table
from endmark.report.crossplay import crossplay_json, crossplay_tables
from endmark.report.crossplay_page import crossplay_page
from endmark.report.crossplay_picture import draw_crossplay
from endmark.report.curve import Curve, learning_curve
from endmark.report.film import Film, filmed
from endmark.report.outputs import writable
from endmark.report.plot import draw_runs, points_table
from endmark.report.run_curves import RunCurve, best_of, grouped, points_of, read_run
from endmark.report.values import ValuesBeside

__all__ = [
    "CountsDisplay",
    "Curve",
    "Film",
    "ProbeDisplay",
    "RunCurve",
    "TrainingDisplay",
    "ValuesBeside",
    "best_of",
    "crossplay_json",
    "crossplay_page",
    "crossplay_tables",
    "draw_crossplay",
    "draw_runs",
    "filmed",
    "grouped",
    "learning_curve",
    "points_of",
    "points_table",
    "read_run",
    "summary_table",
    "writable",
]
