"""`endmark fit-prior`: the space of subgoals that opponent modelling infers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.disk import replacing
from endmark.report import CountsDisplay
from endmark.report.prior import draw_prior, prior_table
from endmark.training.fit_prior import PriorConfig, collect, fit, save


@dataclass(frozen=True)
class FitPriorCommand:
    """Collect episodes with partners, and fit an autoencoder of what a learner sees there.

    Leaves weights, report.json and a picture in a directory, for `endmark train omg --prior`.
    """

    config: Annotated[PriorConfig, tyro.conf.arg(name="")]
    """What to fit, and how."""
    out: Path
    """The directory to write."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        with CountsDisplay(console) as display:
            fitted = fit(self.config, collect(self.config, display), display)
        report = save(self.config, fitted, self.out)
        with replacing(self.out / "report.json") as path:
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        console.print(prior_table(report))
        try:
            draw_prior(fitted, self.out / "prior.png")
        except ImportError:
            console.print('no picture: pip install "endmark[plot]"', markup=False)
        console.print(f"prior: {self.out}", soft_wrap=True, markup=False)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parse(FitPriorCommand, "fit-prior", args)(Terminal())
    return 0
