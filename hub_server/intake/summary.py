"""What the hub signs about a bundle that it accepted: an in-toto Simple Verification Result.

Predicate https://in-toto.io/attestation/svr/v0.1, in a DSSE envelope. It is about the bundle, by
the digest of its manifest, and about each file of the canonical form. Who holds the hub's public
key checks both without the hub. An SVR lists only what held: none is signed about a rejection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hub_server.intake.canonical import files_of, folder_of
from hub_server.intake.reasons import Reason
from hub_server.storage import Storage
from pixcell_share.bundles import PublicKey, SiteKey
from pixcell_share.bundles._codec import MANIFEST_NAME
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._statement import Statement, read_statement
from pixcell_share.errors import DigestError
from pixcell_share.files import canonical_json

PREDICATE = "https://in-toto.io/attestation/svr/v0.1"
EXTENSION = "pixcell-share:intake"
"""Our figures in the result: an extension field, as in-toto's parsing rules allow."""
PROPERTIES = (
    "PIXCELL_SHARE_SIGNED_BY_A_MEMBER",
    "PIXCELL_SHARE_FILES_AS_SIGNED",
    "PIXCELL_SHARE_AUDIT_PASSED",
    "PIXCELL_SHARE_REQUIREMENTS_MET",
    "PIXCELL_SHARE_SHARDS_PLAIN",
    "PIXCELL_SHARE_PICTURES_WITHIN_LIMITS",
    "PIXCELL_SHARE_WRITTEN_ANEW",
)
_NAME = "summary"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class VerificationSummary:
    """What the hub says it has verified."""

    bundle: str
    """SHA-256 of the bundle's manifest."""
    files: Mapping[str, str]
    """SHA-256 of each canonical file by its name in `canonical.folder_of` the bundle."""
    hub: str
    """Id of the hub's key."""
    time: datetime
    """When it was verified, UTC."""
    properties: tuple[str, ...]
    findings: Mapping[str, Any]
    """Who signed the bundle, what the hub required, and what its pictures are like."""


def sign_summary(
    bundle: str,
    canonical: Mapping[str, Any],
    findings: Mapping[str, Any],
    time: datetime,
    key: SiteKey,
) -> dict[str, Any]:
    """The envelope, as the registry keeps it. The same arguments give the same bytes.

    Args:
        bundle: SHA-256 of the manifest.
        canonical: the files of the canonical form, from `canonical.describe`.
        findings: see `VerificationSummary`.
        time: when it was verified.
        key: the hub's.
    """
    subjects = [(MANIFEST_NAME, bundle), *((f.name, f.sha256) for f in files_of(canonical))]
    predicate = {
        "verifier": {"id": _verifier(key.public)},
        "timeCreated": time.astimezone(UTC).strftime(_TIME),
        "properties": list(PROPERTIES),
        EXTENSION: dict(findings),
    }
    statement = Statement(tuple(sorted(subjects)), PREDICATE, predicate)
    return Envelope.sign(statement.to_bytes(), key).to_document()


def check_summary(document: Mapping[str, Any], hub: PublicKey) -> VerificationSummary:
    """Read a summary; needs nothing but the hub's public key.

    Raises:
        SignatureError: it is not signed by this hub, or was changed.
        FormatError: it is no summary.
    """
    envelope = Envelope.from_bytes(canonical_json(document), _NAME)
    envelope.check([hub], _NAME)
    subjects, predicate = read_statement(envelope.payload, _NAME, PREDICATE)
    predicate.close("verifier", "timeCreated", "properties", EXTENSION)
    predicate.object("verifier").constant("id", _verifier(hub))
    files = dict(subjects)
    if MANIFEST_NAME not in files:
        raise predicate.wrong("subject", f"does not name {MANIFEST_NAME}")
    try:
        time = datetime.strptime(predicate.text("timeCreated"), _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise predicate.wrong("timeCreated", "is no time") from error
    return VerificationSummary(
        bundle=files.pop(MANIFEST_NAME),
        files=files,
        hub=hub.key_id,
        time=time,
        properties=tuple(predicate.texts("properties")),
        findings=predicate.object(EXTENSION).values,
    )


def check_stored_files(summary: VerificationSummary, storage: Storage) -> None:
    """Compare the canonical files with what the hub signed for.

    Raises:
        NotFoundError: a file is gone.
        DigestError: a file was changed.
    """
    for name, sha256 in sorted(summary.files.items()):
        key = f"{folder_of(summary.bundle)}/{name}"
        with storage.get(key) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != sha256:
            raise DigestError(
                f"{key} is not the file that the hub signed for",
                "do not train on it; restore it from a backup, or take the bundle in again",
                Reason.DIGEST_WRONG,
            )


def _verifier(hub: PublicKey) -> str:
    """A hub is known by its key: it may have no domain."""
    return f"urn:pixcell-share:hub:{hub.key_id}"
