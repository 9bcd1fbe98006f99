"""Check a bundle that somebody else sent, from raw bytes to HDF5, in that order."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.bundles._codec import (
    AUDIT_NAME,
    COHORT_PREDICATE,
    CROISSANT_NAME,
    MANIFEST_NAME,
    PREVIEW_NAME,
    read_audit,
    read_manifest,
)
from pixcell_share.bundles._confined import inspect_shard
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._json import MAX_JSON_BYTES, parse_json
from pixcell_share.bundles._preview import MAX_PREVIEW_BYTES, check_png
from pixcell_share.bundles._statement import read_statement
from pixcell_share.bundles.audit import AuditResult
from pixcell_share.bundles.cohort import Manifest
from pixcell_share.bundles.keys import PublicKey
from pixcell_share.bundles.requirements import DEFAULT_REQUIRED, Requirement, check_read
from pixcell_share.bundles.write import MAX_SHARD_BYTES
from pixcell_share.errors import DigestError, FormatError

_BLOCK = 4 << 20
_RESEND = "ask the site to send the bundle again"


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
        on_bytes: told the number of bytes after each block that was read.
        requirements: what the audit's figures and the site's limits must keep, beyond PASS.
        required_tests: the tests that the audit must have.

    Raises:
        SignatureError: no valid signature by a trusted key.
        DigestError: a file is missing, extra, changed, or not a plain file.
        FormatError: a field or a dataset breaks the format, or the audit did not pass, lacks a
            test, or does not meet a requirement.
    """
    trusted = tuple(trusted)
    with _opened_folder(folder) as directory:
        raw = _read_small(directory, MANIFEST_NAME, MAX_JSON_BYTES)
        envelope = Envelope.from_bytes(raw, MANIFEST_NAME)
        key = envelope.check(trusted, MANIFEST_NAME)
        files, _ = read_statement(envelope.payload, MANIFEST_NAME, COHORT_PREDICATE)
        if AUDIT_NAME not in dict(files):
            raise FormatError(
                f"the bundle has no audit: {MANIFEST_NAME} does not list {AUDIT_NAME}",
                "do not use the bundle: what left the site unchecked is not evidence of anything",
            )
        identities = _check_files(directory, dict(files), on_bytes)
        manifest = read_manifest(envelope.payload)
        if manifest.key_id != key.key_id:
            raise _broken(f"{MANIFEST_NAME}: field site.key_id is not the key that signed it")
        audit = _check_audit(directory, manifest, key)
        check_read(audit, AUDIT_NAME, required_tests, requirements)
        parse_json(_read_small(directory, CROISSANT_NAME, MAX_JSON_BYTES), CROISSANT_NAME)
        check_png(_read_small(directory, PREVIEW_NAME, MAX_PREVIEW_BYTES), PREVIEW_NAME)
        _check_shards(directory, manifest, identities)
    return VerifiedBundle(folder, hashlib.sha256(raw).hexdigest(), key, manifest, audit)


def _check_files(
    directory: int, files: dict[str, str], on_bytes: Callable[[int], object]
) -> dict[str, tuple[int, ...]]:
    """Compare the folder with the signed list; the identity of each file as it was hashed."""
    present = _list_plain_files(directory)
    if missing := sorted(files.keys() - present):
        raise DigestError(f"{_shown(missing[0])} is missing", _RESEND)
    if extra := sorted(present - files.keys() - {MANIFEST_NAME}):
        raise DigestError(
            f"{_shown(extra[0])} is not in the signed list of files",
            "remove it if you put it there, else do not use the bundle",
        )
    identities = {}
    for name, expected in files.items():
        with _opened(directory, name) as descriptor:
            if _sha256(descriptor, name, on_bytes) != expected:
                raise DigestError(f"{_shown(name)} differs from its signed digest", _RESEND)
            identities[name] = _identity(descriptor)
    return identities


def _list_plain_files(directory: int) -> set[str]:
    names = set()
    for entry in os.scandir(directory):
        mode = entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}
            kind = kinds.get(stat.S_IFMT(mode), "a special file")
            raise DigestError(
                f"{_shown(entry.name)} is {kind}, and a bundle holds plain files only", _RESEND
            )
        names.add(entry.name)
    return names


def _check_audit(directory: int, manifest: Manifest, key: PublicKey) -> AuditResult:
    """The audit is signed by the same key, about these shards, passed, and the one stated."""
    raw = _read_small(directory, AUDIT_NAME, MAX_JSON_BYTES)
    if hashlib.sha256(raw).hexdigest() != manifest.audit_sha256:
        raise _broken(f"{MANIFEST_NAME}: field audit.sha256 is not the digest of {AUDIT_NAME}")
    envelope = Envelope.from_bytes(raw, AUDIT_NAME)
    envelope.check([key], AUDIT_NAME)
    audit, subjects = read_audit(envelope.payload)
    if subjects != tuple(entry for entry in manifest.files if entry[0].endswith(".h5")):
        raise _broken(f"{AUDIT_NAME}: field subject does not name the shards of this bundle")
    if audit.verdict != manifest.audit_verdict:
        raise _broken(f"{MANIFEST_NAME}: field audit.verdict is not the verdict of {AUDIT_NAME}")
    if audit.verdict != "PASS":
        raise FormatError(
            f"{AUDIT_NAME}: the verdict is {audit.verdict}, and only PASS may be shared",
            "do not use the bundle, and tell the site",
        )
    return audit


def _check_shards(
    directory: int, manifest: Manifest, identities: dict[str, tuple[int, ...]]
) -> None:
    cohort, totals = manifest.cohort, [0] * len(manifest.class_counts)
    for shard in manifest.shards:
        expected = {
            "count": shard.count,
            "tile_px": cohort.tile_px,
            "mpp": cohort.mpp,
            "classes": cohort.classes,
        }
        with _opened(directory, shard.name) as descriptor:
            if _identity(descriptor) != identities[shard.name]:
                raise DigestError(f"{shard.name} was changed while it was checked", _RESEND)
            counts = inspect_shard(descriptor, shard.name, expected)
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
    if tuple(totals) != manifest.class_counts:
        raise _broken(f"{MANIFEST_NAME}: field classes does not match the labels in the shards")


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    """The folder itself, so that nothing changes places while it is checked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FormatError(
            f"the bundle cannot be opened as a folder: {error.strerror}", "check the path"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    """A plain file of the folder, never through a link, never waiting for a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError as error:
        raise DigestError(f"{_shown(name)} is missing", _RESEND) from error
    except OSError as error:
        raise DigestError(f"{_shown(name)} cannot be read: {error.strerror}", _RESEND) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DigestError(f"{_shown(name)} is not a plain file", _RESEND)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_small(directory: int, name: str, limit: int) -> bytes:
    with _opened(directory, name) as descriptor:
        data = bytearray()
        while block := os.read(descriptor, limit + 1 - len(data)):
            data += block
    if len(data) > limit:
        raise _broken(f"{name} is larger than {limit} bytes")
    return bytes(data)


def _sha256(descriptor: int, name: str, on_bytes: Callable[[int], object]) -> str:
    limit = MAX_SHARD_BYTES if name.endswith(".h5") else MAX_PREVIEW_BYTES
    if os.fstat(descriptor).st_size > limit:
        raise _broken(f"{_shown(name)} is larger than {limit} bytes")
    digest = hashlib.sha256()
    while block := os.read(descriptor, _BLOCK):
        digest.update(block)
        on_bytes(len(block))
    return digest.hexdigest()


def _identity(descriptor: int) -> tuple[int, ...]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _shown(name: str) -> str:
    """A stranger's file name, without control characters or look-alikes."""
    return ascii(name)[1:-1][:100]


def _broken(cause: str) -> FormatError:
    return FormatError(cause, "do not use the bundle, and ask the site to write it again")
