"""Does this loss leak? Disturb what must not matter, and report the numbers that change."""

from endmark.audit.case import Case
from endmark.audit.findings import Finding, Report
from endmark.audit.hard import CASES, hard_batch
from endmark.audit.html import report_html
from endmark.audit.learner import audit_learner
from endmark.audit.probes import PROBES
from endmark.audit.run import assert_no_leaks, audit
from endmark.audit.shrink import reproduce
from endmark.audit.target import audit_target
from endmark.audit.text import report_text
from endmark.audit.view import AuditError

__all__ = [
    "CASES",
    "PROBES",
    "AuditError",
    "Case",
    "Finding",
    "Report",
    "assert_no_leaks",
    "audit",
    "audit_learner",
    "audit_target",
    "hard_batch",
    "report_html",
    "report_text",
    "reproduce",
]
