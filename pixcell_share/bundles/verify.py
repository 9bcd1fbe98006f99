"""Check a bundle that somebody else sent, from raw bytes to HDF5, in that order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcell_share.bundles._codec import (
    AUDIT_NAME,
    COHORT_PREDICATE,
    CROISSANT_NAME,
    MANIFEST_NAME,
    PREVIEW_NAME,
    read_audit,
    read_manifest,
)
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._folder import (
    RESEND,
    Identity,
    check_files,
    identity,
    opened,
    opened_folder,
    read_small,
)
from pixcell_share.bundles._json import MAX_JSON_BYTES, parse_json
from pixcell_share.bundles._preview import MAX_PREVIEW_BYTES, check_png
from pixcell_share.bundles._statement import read_statement
from pixcell_share.bundles.audit import AuditResult
from pixcell_share.bundles.cohort import Manifest, Shard
from pixcell_share.bundles.faults import Fault
from pixcell_share.bundles.inspection import ShardStream, inspect_shard
from pixcell_share.bundles.keys import PublicKey
from pixcell_share.bundles.requirements import DEFAULT_REQUIRED, Requirement, check_read
from pixcell_share.errors import DigestError, FormatError, SignatureError

_TELL = "do not use the bundle, and tell the site"


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose every byte was checked. Nothing else may be built from a folder."""

    folder: Path
    digest: str
    """SHA-256 of `manifest.dsse.json`: the bundle's name."""
    key: PublicKey
    """The trusted key that signed it."""
    manifest: Manifest
    audit: AuditResult


@dataclass(frozen=True)
class SignedBundle:
    """A bundle of which all holds but the inside of its shards: nobody has parsed those yet."""

    digest: str
    """SHA-256 of `manifest.dsse.json`: the bundle's name."""
    key: PublicKey
    manifest: Manifest
    audit: AuditResult
    _directory: int
    _identities: dict[str, Identity]

    def inspect(self, shard: Shard) -> list[int]:
        """Have a confined process check one shard; the tiles of each class in it.

        Raises:
            FormatError: it breaks the format.
            DigestError: it is not the file that was hashed.
        """
        with self._opened(shard) as descriptor:
            return inspect_shard(descriptor, shard.name, self._expected(shard))

    @contextmanager
    def stream(self, shard: Shard) -> Iterator[ShardStream]:
        """The same, and its tiles as they come out of the confined process.

        Raises:
            FormatError: as for `inspect`; also while the stream is read.
            DigestError: it is not the file that was hashed.
        """
        with (
            self._opened(shard) as descriptor,
            ShardStream.opened(descriptor, shard.name, self._expected(shard)) as stream,
        ):
            yield stream

    def check_counts(self, counts: Sequence[int]) -> None:
        """Compare the tiles of each class in all shards together with the manifest.

        Raises:
            FormatError: they are not those that the manifest states.
        """
        if tuple(counts) != self.manifest.class_counts:
            cause = "field classes does not match the labels in the shards"
            raise _broken(f"{MANIFEST_NAME}: {cause}", Fault.LABELS_DISAGREE)

    def _expected(self, shard: Shard) -> dict[str, Any]:
        cohort = self.manifest.cohort
        return {
            "count": shard.count,
            "tile_px": cohort.tile_px,
            "mpp": cohort.mpp,
            "classes": cohort.classes,
        }

    @contextmanager
    def _opened(self, shard: Shard) -> Iterator[int]:
        with opened(self._directory, shard.name) as descriptor:
            if identity(descriptor) != self._identities[shard.name]:
                cause = f"{shard.name} was changed while it was checked"
                raise DigestError(cause, RESEND, Fault.FILE_CHANGED_MEANWHILE)
            yield descriptor


def verify_bundle(
    folder: Path,
    trusted: Iterable[PublicKey],
    *,
    on_bytes: Callable[[int], object] = lambda _: None,
    requirements: Sequence[Requirement] = (),
    required_tests: Sequence[str] = DEFAULT_REQUIRED,
) -> VerifiedBundle:
    """Check signature, files, statements, audit and shards of a bundle.

    Nothing is parsed before its signature or digest holds, save the two envelopes, and HDF5 only
    by a confined process. No error names a path of this machine.

    Args:
        folder: the bundle.
        trusted: public keys of the sites to accept.
        on_bytes: told the number of bytes after each block that was read; from several threads.
        requirements: what the audit's figures and the site's limits must keep, beyond PASS.
        required_tests: the tests that the audit must have.

    Raises:
        SignatureError: no valid signature by a trusted key.
        DigestError: a file is missing, extra, changed, or not a plain file.
        FormatError: a field or a dataset breaks the format, or the audit did not pass, lacks a
            test, or does not meet a requirement.
    """
    with opened_bundle(
        folder,
        trusted,
        on_bytes=on_bytes,
        requirements=requirements,
        required_tests=required_tests,
    ) as signed:
        counts = [signed.inspect(shard) for shard in signed.manifest.shards]
        signed.check_counts([sum(column) for column in zip(*counts, strict=True)])
    return VerifiedBundle(folder, signed.digest, signed.key, signed.manifest, signed.audit)


@contextmanager
def opened_bundle(
    folder: Path,
    trusted: Iterable[PublicKey],
    *,
    on_bytes: Callable[[int], object] = lambda _: None,
    requirements: Sequence[Requirement] = (),
    required_tests: Sequence[str] = DEFAULT_REQUIRED,
) -> Iterator[SignedBundle]:
    """All checks of `verify_bundle` but those inside the shards, which are left to the caller.

    Arguments and errors are those of `verify_bundle`.
    """
    with opened_folder(folder) as directory:
        raw = read_small(directory, MANIFEST_NAME, MAX_JSON_BYTES)
        envelope = Envelope.from_bytes(raw, MANIFEST_NAME)
        key = envelope.check(tuple(trusted), MANIFEST_NAME)
        files, _ = read_statement(envelope.payload, MANIFEST_NAME, COHORT_PREDICATE)
        if AUDIT_NAME not in dict(files):
            cause = f"the bundle has no audit: {MANIFEST_NAME} does not list {AUDIT_NAME}"
            remedy = "do not use the bundle: what left the site unchecked is evidence of nothing"
            raise FormatError(cause, remedy, Fault.AUDIT_MISSING)
        identities = check_files(directory, dict(files), MANIFEST_NAME, on_bytes)
        manifest = read_manifest(envelope.payload)
        if manifest.key_id != key.key_id:
            cause = f"{MANIFEST_NAME}: field site.key_id is not the key that signed it"
            raise _broken(cause, Fault.KEY_ID_DIFFERS)
        audit = _check_audit(directory, manifest, key)
        check_read(audit, AUDIT_NAME, required_tests, requirements)
        parse_json(read_small(directory, CROISSANT_NAME, MAX_JSON_BYTES), CROISSANT_NAME)
        check_png(read_small(directory, PREVIEW_NAME, MAX_PREVIEW_BYTES), PREVIEW_NAME)
        digest = hashlib.sha256(raw).hexdigest()
        yield SignedBundle(digest, key, manifest, audit, directory, identities)


def _check_audit(directory: int, manifest: Manifest, key: PublicKey) -> AuditResult:
    """The audit is signed by the same key, about these shards, passed, and the one stated."""
    raw = read_small(directory, AUDIT_NAME, MAX_JSON_BYTES)
    if hashlib.sha256(raw).hexdigest() != manifest.audit_sha256:
        cause = f"{MANIFEST_NAME}: field audit.sha256 is not the digest of {AUDIT_NAME}"
        raise _broken(cause, Fault.AUDIT_OF_ANOTHER_BUNDLE)
    envelope = Envelope.from_bytes(raw, AUDIT_NAME)
    if envelope.key_id != key.key_id:
        cause = f"{AUDIT_NAME} is signed by another key than {MANIFEST_NAME}"
        raise SignatureError(cause, _TELL, Fault.AUDIT_OF_ANOTHER_KEY)
    envelope.check([key], AUDIT_NAME)
    audit, subjects = read_audit(envelope.payload)
    if subjects != tuple(entry for entry in manifest.files if entry[0].endswith(".h5")):
        cause = f"{AUDIT_NAME}: field subject does not name the shards of this bundle"
        raise _broken(cause, Fault.AUDIT_OF_ANOTHER_BUNDLE)
    if audit.verdict != manifest.audit_verdict:
        cause = f"{MANIFEST_NAME}: field audit.verdict is not the verdict of {AUDIT_NAME}"
        raise _broken(cause, Fault.AUDIT_OF_ANOTHER_BUNDLE)
    if audit.verdict != "PASS":
        cause = f"{AUDIT_NAME}: the verdict is {audit.verdict}, and only PASS may be shared"
        raise FormatError(cause, _TELL, Fault.AUDIT_NOT_PASSED)
    return audit


def _broken(cause: str, fault: Fault) -> FormatError:
    return FormatError(cause, "do not use the bundle, and ask the site to write it again", fault)
