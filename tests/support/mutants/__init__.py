"""Small losses, each with one real bug of the field, and its right twin.

They are what the audit is measured by: every mutant must be flagged, by the probe that was made for it, and
every twin must come out clean. Each is written as somebody of the field would have written it; the two
differ where `right` is asked, and nowhere else.
"""

from support.mutants import agents, masks, numerics, recurrence, returns, sequences, statistics, tokens
from support.mutants.common import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *masks.MUTANTS,
    *statistics.MUTANTS,
    *returns.MUTANTS,
    *recurrence.MUTANTS,
    *sequences.MUTANTS,
    *tokens.MUTANTS,
    *agents.MUTANTS,
    *numerics.MUTANTS,
)

__all__ = ["MUTANTS", "Mutant"]
