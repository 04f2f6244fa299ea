"""`python -m benchmarks`: measure endmark and the usual padded way, in one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff

from benchmarks.display import BenchDisplay
from benchmarks.picture import check_picture, picture
from benchmarks.run import SECTIONS, run, section_names
from benchmarks.table import markdown, terminal


@dataclass(frozen=True)
class Options:
    """Measure endmark and the usual padded way. Nothing is timed unless both compute the same results."""

    only: str = ",".join(SECTIONS)
    """The sections to run, separated by commas."""
    threads: int = 1
    """Threads of torch on the CPU."""
    quick: FlagCreatePairsOff[bool] = False
    """Tiny shapes, a few seconds: check that all results agree. The times printed mean nothing."""
    json: Path | None = None
    """Also write all measurements to this file, as JSON."""
    picture: Path | None = None
    """Also draw a picture to this file, .png or .svg."""
    markdown: FlagCreatePairsOff[bool] = False
    """Print the tables as Markdown."""


def main(args: Sequence[str] | None = None) -> None:
    """Parse the command line and measure. An error is one line on stderr and exit status 2."""
    options = tyro.cli(Options, prog="python -m benchmarks", args=args)
    try:
        measure(options)
    except (ValueError, OSError) as error:
        print(f"benchmarks: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def measure(options: Options) -> None:
    """Run the sections; write and print the results. ValueError for bad options."""
    names = section_names(options.only)
    for path in (options.json, options.picture):  # report a bad path before minutes of measuring
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path}: there is no directory {path.parent}")
    if options.picture is not None:
        check_picture(names)
    with BenchDisplay(Console(stderr=True)) as display:
        results = run(names, threads=options.threads, quick=options.quick, observe=display)
    if options.json is not None:
        options.json.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    if options.picture is not None:
        picture(results, options.picture)
    if options.markdown:
        print(markdown(results))
    else:
        Console().print(terminal(results))


if __name__ == "__main__":
    main()
