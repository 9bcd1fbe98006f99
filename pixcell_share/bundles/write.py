"""Write and sign a bundle: all of it, or nothing."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pixcell_share import __version__
from pixcell_share.bundles._card import render_card
from pixcell_share.bundles._codec import (
    AUDIT_NAME,
    CARD_NAME,
    CROISSANT_NAME,
    MANIFEST_NAME,
    PREVIEW_NAME,
    audit_statement,
    manifest_statement,
)
from pixcell_share.bundles._croissant import croissant
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._preview import ContactSheet
from pixcell_share.bundles._shards import Tile, plan_shards, write_shards
from pixcell_share.bundles._vocabulary import public_texts
from pixcell_share.bundles.audit import AuditResult
from pixcell_share.bundles.cohort import Cohort, Manifest, Shard
from pixcell_share.bundles.forbidden import Search, Secrets
from pixcell_share.bundles.keys import SiteKey
from pixcell_share.bundles.limits import MAX_SHARD_BYTES, MAX_SHARDS
from pixcell_share.bundles.requirements import check_complete
from pixcell_share.errors import ReleaseRefusedError, SettingsError, StorageError
from pixcell_share.files import canonical_json, storage_errors

_NOT_SIGNED = "0" * 64
"""Stands for the digest of an audit that is still to be signed."""


@dataclass(frozen=True)
class BundleSummary:
    """What was written."""

    folder: Path
    digest: str
    """SHA-256 of `manifest.dsse.json`, and through it of every file: the bundle's name."""
    manifest: Manifest
    total_bytes: int
    """Size of all files together."""


def write_bundle(
    folder: Path,
    cohort: Cohort,
    tiles: Iterable[Tile],
    audit: AuditResult | Callable[[Path], AuditResult],
    key: SiteKey,
    *,
    count: int,
    shard_bytes: int = MAX_SHARD_BYTES,
    forbidden: Secrets | None = None,
    required_tests: Sequence[str] | None = None,
) -> BundleSummary:
    """Write tiles, card, metadata, audit and manifest to ``folder``, and sign.

    The folder appears whole, by one rename, or not at all. Equal input and key give equal
    bytes. Where ``folder`` holds the very same bundle already, it is left as it is.

    Nothing is signed before the audit passed and no forbidden word was found, in any file or in
    the statements themselves.

    Args:
        folder: the bundle to make; its parent is made if needed.
        cohort: what the site states about it.
        tiles: uint8 ``(tile_px, tile_px, 3)`` RGB and its label, in the order to write
            (`shuffled_order`); read once, one at a time.
        audit: must have passed. Or what makes it, given a folder that holds the shards and the
            preview as they will be released.
        key: the site's key.
        count: the number of ``tiles``.
        shard_bytes: the largest size of one shard, at most `MAX_SHARD_BYTES`.
        forbidden: names that may not be in any byte of the bundle.
        required_tests: what the audit must have tested, if not `REQUIRED_TESTS`.

    Raises:
        ReleaseRefusedError: the audit's verdict is not ``PASS`` (an audit that was there before
            is judged before a tile is read), it lacks a test, or a forbidden word was found.
        StorageError: the disk is full, or the folder holds something else.
        SettingsError: there is no tile.
        ValueError: ``tiles`` does not hold what it should, see `_shards.write_shards`.
    """
    if isinstance(audit, AuditResult):
        _check_release(audit, required_tests)
    if count < 1:
        raise SettingsError("there is no tile to release", "use more slides, or draw more tiles")
    shards = plan_shards(count, cohort.tile_px, min(shard_bytes, MAX_SHARD_BYTES))
    if len(shards) > MAX_SHARDS:
        raise SettingsError(
            f"{count} tiles need {len(shards)} shards, and a bundle has at most {MAX_SHARDS}",
            "split the cohort, or make shard_bytes larger",
        )
    with _whole_folder(folder, needed=count * 3 * cohort.tile_px**2) as part:
        counts = _write_tiles(part, cohort, shards, tiles)
        result = audit if isinstance(audit, AuditResult) else audit(part)
        _check_release(result, required_tests)
        manifest = _sign(part, cohort, shards, counts, result, key, forbidden)
        total = sum(path.stat().st_size for path in part.iterdir())
    return BundleSummary(folder, bundle_digest(folder), manifest, total)


def bundle_digest(folder: Path) -> str:
    """SHA-256 of the manifest of the bundle in ``folder``: the bundle's name."""
    return file_sha256(folder / MANIFEST_NAME)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_tiles(
    part: Path, cohort: Cohort, shards: list[Shard], tiles: Iterable[Tile]
) -> list[int]:
    """Shards and preview; the tiles of each class."""
    sheet, counts = ContactSheet(), [0] * len(cohort.classes)
    for image, label in write_shards(part, cohort, shards, tiles):
        sheet.add(image)
        counts[label] += 1
    (part / PREVIEW_NAME).write_bytes(sheet.to_png())
    return counts


def _sign(
    part: Path,
    cohort: Cohort,
    shards: list[Shard],
    counts: list[int],
    audit: AuditResult,
    key: SiteKey,
    forbidden: Secrets | None,
) -> Manifest:
    """Every other file: both statements are built, then all is searched, and only then signed."""
    digests = _describe(part, cohort, counts, audit)
    about = [(name, sha) for name, sha in digests if name.endswith(".h5")]
    audit_payload = audit_statement(audit, about).to_bytes()
    draft = Manifest(
        cohort=cohort,
        class_counts=tuple(counts),
        shards=tuple(shards),
        audit_sha256=_NOT_SIGNED,
        audit_verdict=audit.verdict,
        key_id=key.key_id,
        software=__version__,
        files=tuple(sorted([*digests, (AUDIT_NAME, _NOT_SIGNED)])),
    )
    if forbidden is not None:
        _check_words(
            part,
            {AUDIT_NAME: audit_payload, MANIFEST_NAME: manifest_statement(draft).to_bytes()},
            Search(forbidden, public_texts(cohort, audit)),
        )
    audit_bytes = Envelope.sign(audit_payload, key).to_bytes()
    (part / AUDIT_NAME).write_bytes(audit_bytes)
    digest = hashlib.sha256(audit_bytes).hexdigest()
    files = tuple(sorted([*digests, (AUDIT_NAME, digest)]))
    manifest = replace(draft, audit_sha256=digest, files=files)
    envelope = Envelope.sign(manifest_statement(manifest).to_bytes(), key)
    (part / MANIFEST_NAME).write_bytes(envelope.to_bytes())
    return manifest


def _describe(
    part: Path, cohort: Cohort, counts: list[int], audit: AuditResult
) -> list[tuple[str, str]]:
    """Write card and metadata; name and SHA-256 of every file so far."""
    (part / CARD_NAME).write_text(render_card(cohort, counts, audit), encoding="utf-8")
    digests = [(path.name, file_sha256(path)) for path in sorted(part.iterdir())]
    metadata = croissant(
        cohort, counts, [(name, sha, (part / name).stat().st_size) for name, sha in digests]
    )
    (part / CROISSANT_NAME).write_bytes(canonical_json(metadata))
    return [*digests, (CROISSANT_NAME, file_sha256(part / CROISSANT_NAME))]


def _check_words(part: Path, payloads: Mapping[str, bytes], search: Search) -> None:
    """Refuse what holds a forbidden word. The word itself goes to the traceback only."""
    in_files = (finding for path in sorted(part.iterdir()) for finding in search.in_file(path))
    in_payloads = (
        finding for name, payload in payloads.items() for finding in search.in_text(name, payload)
    )
    if found := next(chain(in_files, in_payloads), None):
        error = ReleaseRefusedError(
            f"{found.file} holds {found.what}, and a bundle identifies no one",
            "nothing was signed; see the report for where it comes from: a label, or a name in "
            "site.toml",
        )
        error.add_note(f"found: {found.private}")
        raise error


def _check_release(audit: AuditResult, required_tests: Sequence[str] | None) -> None:
    if audit.verdict == "PASS":
        return check_complete(audit, required_tests)
    if audit.verdict == "INVALID":
        raise ReleaseRefusedError(
            "the privacy audit is INVALID, since it could not have noticed a leak: "
            f"{_blind(audit)}",
            "nothing was signed; audit.html has the figures",
        )
    raise ReleaseRefusedError(
        f"the privacy checks refused the release: {', '.join(audit.failed)} failed",
        "nothing was signed; audit.html says by how much, and what would help",
    )


def _blind(audit: AuditResult) -> str:
    """Which control of the audit itself did not hold."""
    if "planted_copies" in audit.failed:
        return "planted copies were missed, or tiles of other patients taken for copies"
    if "second_encoder" in audit.failed:
        return "its second encoder does not tell the real tiles apart"
    return "too few patients are set aside to compare with"


@contextmanager
def _whole_folder(folder: Path, needed: int) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its name if the block succeeds."""
    part = folder.with_name(f".{folder.name}.part")
    with storage_errors(folder):
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        _check_room(part.parent, needed)
        try:
            part.mkdir(mode=0o755)
            yield part
            _settle(part)
            _publish(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _check_room(parent: Path, needed: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise StorageError(
            f"the bundle needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free",
            "free some space, then run the same command again: finished work is kept",
        )


def _settle(part: Path) -> None:
    """One mode for all files whatever the umask, and all of them on the disk."""
    for path in [*part.iterdir(), part]:
        path.chmod(0o755 if path is part else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(part: Path, folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        if not _same_files(part, folder):
            raise StorageError(
                f"{folder.name} is there already and holds something else",
                "choose another folder, or move it away: a bundle is never overwritten",
            )
        return
    part.rename(folder)


def _same_files(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    if not other.is_dir() or names != sorted(path.name for path in other.iterdir()):
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
