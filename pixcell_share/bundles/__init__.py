"""Bundles: write and sign a synthetic cohort, and check one that somebody else sent.

The format is described in ``docs/formats.md``.
"""

from pixcell_share.bundles._lookalikes import skeleton
from pixcell_share.bundles.audit import AuditResult, AuditTest, Verdict
from pixcell_share.bundles.cohort import Cohort, GenerationSettings, Manifest, Shard, check_name
from pixcell_share.bundles.faults import Fault
from pixcell_share.bundles.forbidden import Finding, Secrets
from pixcell_share.bundles.keys import PublicKey, SiteKey, load_public_key
from pixcell_share.bundles.order import shuffled_order
from pixcell_share.bundles.requirements import REQUIRED_TESTS, Requirement
from pixcell_share.bundles.verify import (
    SignedBundle,
    VerifiedBundle,
    opened_bundle,
    verify_bundle,
)
from pixcell_share.bundles.write import BundleSummary, bundle_digest, write_bundle

__all__ = [
    "REQUIRED_TESTS",
    "AuditResult",
    "AuditTest",
    "BundleSummary",
    "Cohort",
    "Fault",
    "Finding",
    "GenerationSettings",
    "Manifest",
    "PublicKey",
    "Requirement",
    "Secrets",
    "Shard",
    "SignedBundle",
    "SiteKey",
    "Verdict",
    "VerifiedBundle",
    "bundle_digest",
    "check_name",
    "load_public_key",
    "opened_bundle",
    "shuffled_order",
    "skeleton",
    "verify_bundle",
    "write_bundle",
]
