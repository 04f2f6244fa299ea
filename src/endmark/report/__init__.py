"""Pictures and tables for people."""

from endmark.report.console import ProbeDisplay, TrainingDisplay, summary_table
from endmark.report.curve import learning_curve

__all__ = ["ProbeDisplay", "TrainingDisplay", "learning_curve", "summary_table"]
