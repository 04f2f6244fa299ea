"""Progress display of a benchmark."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class BenchDisplay:
    """A progress bar over the sections. If the output is not a terminal, one line for each section.

    The bar is redrawn only when a section begins, so that drawing does not disturb measurements.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]bench"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[section]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("bench", total=None, section="")

    def __call__(self, section: str, done: int, total: int) -> None:
        """Show that this section begins, as number `done` + 1 of `total`."""
        if not self._console.is_terminal:
            self._console.print(f"{done + 1}/{total}  {section}", highlight=False, soft_wrap=True)
            return
        self._progress.update(self._task, completed=done, total=total, section=section, refresh=True)

    def __enter__(self) -> BenchDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
