"""The probes, one file each. A probe disturbs one thing, and yields a finding for each wrong response.

Most disturb something that must not matter, and report the numbers that change. Some disturb something that
must matter, and report that nothing changes. The probes run in the order of `PROBES`.
"""

from collections.abc import Callable, Iterator

from endmark.audit.context import Audit
from endmark.audit.findings import Finding
from endmark.audit.probes import (
    agents,
    bootstrap,
    causality,
    company,
    empty,
    padding,
    poison,
    purity,
    reset,
    seams,
    weight,
)

Probe = Callable[[Audit], Iterator[Finding]]

PROBES: dict[str, Probe] = {
    "purity": purity.probe,
    "poison": poison.probe,
    "padding": padding.probe,
    "weight": weight.probe,
    "bootstrap": bootstrap.probe,
    "company": company.probe,
    "seams": seams.probe,
    "reset": reset.probe,
    "causality": causality.probe,
    "empty": empty.probe,
    "agents": agents.probe,
}
"""Every probe, in the order in which they run."""

__all__ = ["PROBES", "Probe"]
