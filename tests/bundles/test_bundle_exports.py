from __future__ import annotations

import pixcell_share.bundles
from pixcell_share.bundles import _codec


def test_exports_are_pinned() -> None:
    """What a person may import. A name that goes away breaks someone: say so in the changes."""
    assert pixcell_share.bundles.__all__ == [
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
    assert all(hasattr(pixcell_share.bundles, name) for name in pixcell_share.bundles.__all__)


def test_names_in_signed_files_are_pinned() -> None:
    """Bundles that are out there carry them for good."""
    assert _codec.COHORT_PREDICATE == "urn:pixcell-share:cohort:v1"
    assert _codec.AUDIT_PREDICATE == "https://in-toto.io/attestation/test-result/v0.1"
    assert _codec.AUDIT_EXTENSION == "pixcell-share:audit"
    assert _codec.SCHEMA_VERSION == 1
