"""A `sys.exit` in code that is not endmark's."""

from __future__ import annotations

import os
import traceback


def exit_of_foreign_code(stop: SystemExit) -> str:
    """What to say about it: where it was called.

    Commands return their status, so what raises SystemExit in them is an environment, an algorithm or a loss.
    """
    library = os.path.dirname(os.__file__)  # of argparse, say, which exits for its caller
    frames = [
        frame
        for frame in traceback.extract_tb(stop.__traceback__)
        if "site-packages" in frame.filename or not frame.filename.startswith((library, "<frozen"))
    ]
    place = f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}"
    return f"SystemExit: {stop.code} ({place}): given code that ends the program, want code that returns"
