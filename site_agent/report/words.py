"""What `report.html` says of the verdict."""

from __future__ import annotations

from pixcell_share.bundles.audit import AuditResult


def headline(audit: AuditResult | None) -> str:
    """The verdict in a few words."""
    if audit is None:
        return "Not audited, not signed"
    return {
        "PASS": "The cohort passed the audit",
        "REFUSE": "The release was refused",
        "INVALID": "The audit proves nothing",
    }[audit.verdict]
