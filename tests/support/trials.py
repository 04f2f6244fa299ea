"""How many cases the tests of kills and stops take: a few by default, all in `make kill-test`."""

import os

WHOLE = "ENDMARK_KILLS" in os.environ
"""All kinds of runs, signals and moments, in place of a few."""


def kills(usually: int) -> int:
    """How many runs are killed."""
    return int(os.environ.get("ENDMARK_KILLS", usually))
