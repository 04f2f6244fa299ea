"""Does this loss leak? Disturb what must not matter, and report the numbers that change."""

from endmark.audit.adapters import (
    PyMARLBatch,
    buffer_fields,
    nested_fields,
    pymarl_batch,
    with_buffer_fields,
    with_nested_fields,
)
from endmark.audit.case import Case
from endmark.audit.checkout import checkout
from endmark.audit.findings import Finding, Report
from endmark.audit.hard import CASES, hard_batch
from endmark.audit.html import report_html
from endmark.audit.learner import audit_learner
from endmark.audit.probes import PROBES
from endmark.audit.rows import DONES, EPISODE_STARTS, ON_POLICY, Rows
from endmark.audit.run import assert_no_leaks, audit
from endmark.audit.shrink import reproduce
from endmark.audit.static import Hint, Hints, hints_text, scan
from endmark.audit.target import audit_target
from endmark.audit.text import report_text
from endmark.audit.view import AuditError

__all__ = [
    "CASES",
    "DONES",
    "EPISODE_STARTS",
    "ON_POLICY",
    "PROBES",
    "AuditError",
    "Case",
    "Finding",
    "Hint",
    "Hints",
    "PyMARLBatch",
    "Report",
    "Rows",
    "assert_no_leaks",
    "audit",
    "audit_learner",
    "audit_target",
    "buffer_fields",
    "checkout",
    "hard_batch",
    "hints_text",
    "nested_fields",
    "pymarl_batch",
    "report_html",
    "report_text",
    "reproduce",
    "scan",
    "with_buffer_fields",
    "with_nested_fields",
]
