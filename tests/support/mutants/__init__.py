"""Small losses, each with one real bug of the field, and its right twin.

They measure the audit: a probe that was made for its bug must flag each mutant, and each twin must be clean.
Every loss is written as a researcher would write it. A mutant and its twin differ only where `right` is read.
"""

from support.mutants import (
    agents,
    buffers,
    masks,
    numerics,
    phantom,
    recurrence,
    returns,
    sampled,
    sequences,
    statistics,
    tokens,
)
from support.mutants.common import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *masks.MUTANTS,
    *phantom.MUTANTS,
    *statistics.MUTANTS,
    *returns.MUTANTS,
    *recurrence.MUTANTS,
    *sequences.MUTANTS,
    *tokens.MUTANTS,
    *agents.MUTANTS,
    *buffers.MUTANTS,
    *sampled.MUTANTS,
    *numerics.MUTANTS,
)

__all__ = ["MUTANTS", "Mutant"]
