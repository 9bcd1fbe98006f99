"""Write and sign a bundle: all of it, or nothing."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from pixcell_share.bundles.audit import AuditResult
from pixcell_share.bundles.cohort import Cohort, Manifest, Shard
from pixcell_share.bundles.keys import SiteKey
from pixcell_share.errors import ReleaseRefusedError, SettingsError, StorageError
from pixcell_share.files import canonical_json, storage_errors

MAX_SHARD_BYTES = 2 << 30
MAX_SHARDS = 3000
"""Keeps the JSON files well under `_json.MAX_JSON_BYTES`; 3000 full shards are 6 TB."""


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
    audit: AuditResult,
    key: SiteKey,
    *,
    count: int,
    shard_bytes: int = MAX_SHARD_BYTES,
) -> BundleSummary:
    """Write tiles, card, metadata, audit and manifest to ``folder``, and sign.

    The folder appears whole, by one rename, or not at all. Equal input and key give equal
    bytes. Where ``folder`` holds the very same bundle already, it is left as it is.

    Args:
        folder: the bundle to make; its parent is made if needed.
        cohort: what the site states about it.
        tiles: uint8 ``(tile_px, tile_px, 3)`` RGB and its label, in the order to write
            (`shuffled_order`); read once, one at a time.
        audit: must have passed.
        key: the site's key.
        count: the number of ``tiles``.
        shard_bytes: the largest size of one shard, at most `MAX_SHARD_BYTES`.

    Raises:
        ReleaseRefusedError: the audit's verdict is not ``PASS``; no tile was read.
        StorageError: the disk is full, or the folder holds something else.
        SettingsError: there is no tile.
        ValueError: ``tiles`` does not hold what it should, see `_shards.write_shards`.
    """
    _check_release(audit)
    if count < 1:
        raise SettingsError("there is no tile to release", "use more slides, or draw more tiles")
    shards = plan_shards(count, cohort.tile_px, min(shard_bytes, MAX_SHARD_BYTES))
    if len(shards) > MAX_SHARDS:
        raise SettingsError(
            f"{count} tiles need {len(shards)} shards, and a bundle has at most {MAX_SHARDS}",
            "split the cohort, or make shard_bytes larger",
        )
    with _whole_folder(folder, needed=count * 3 * cohort.tile_px**2) as part:
        manifest = _write_files(part, cohort, shards, tiles, audit, key)
        manifest_bytes = Envelope.sign(manifest_statement(manifest).to_bytes(), key).to_bytes()
        (part / MANIFEST_NAME).write_bytes(manifest_bytes)
        total = sum(path.stat().st_size for path in part.iterdir())
    return BundleSummary(folder, hashlib.sha256(manifest_bytes).hexdigest(), manifest, total)


def bundle_digest(folder: Path) -> str:
    """SHA-256 of the manifest of the bundle in ``folder``: the bundle's name."""
    return file_sha256(folder / MANIFEST_NAME)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_files(
    part: Path,
    cohort: Cohort,
    shards: list[Shard],
    tiles: Iterable[Tile],
    audit: AuditResult,
    key: SiteKey,
) -> Manifest:
    """Every file but the manifest, which is returned ready to sign."""
    sheet, counts = ContactSheet(), [0] * len(cohort.classes)
    for image, label in write_shards(part, cohort, shards, tiles):
        sheet.add(image)
        counts[label] += 1
    (part / PREVIEW_NAME).write_bytes(sheet.to_png())
    (part / CARD_NAME).write_text(render_card(cohort, counts, audit), encoding="utf-8")
    digests = _digests(part)
    metadata = croissant(
        cohort, counts, [(name, sha, (part / name).stat().st_size) for name, sha in digests]
    )
    (part / CROISSANT_NAME).write_bytes(canonical_json(metadata))
    about = [(name, sha) for name, sha in digests if name.endswith(".h5")]
    audit_bytes = Envelope.sign(audit_statement(audit, about).to_bytes(), key).to_bytes()
    (part / AUDIT_NAME).write_bytes(audit_bytes)
    small = [(name, file_sha256(part / name)) for name in (CROISSANT_NAME, AUDIT_NAME)]
    return Manifest(
        cohort=cohort,
        class_counts=tuple(counts),
        shards=tuple(shards),
        audit_sha256=hashlib.sha256(audit_bytes).hexdigest(),
        audit_verdict=audit.verdict,
        key_id=key.key_id,
        software=__version__,
        files=tuple(sorted([*digests, *small])),
    )


def _digests(part: Path) -> list[tuple[str, str]]:
    return [(path.name, file_sha256(path)) for path in sorted(part.iterdir())]


def _check_release(audit: AuditResult) -> None:
    if audit.verdict == "PASS":
        return
    if audit.verdict == "INVALID":
        raise ReleaseRefusedError(
            "the privacy checks are INVALID: they did not catch the copies planted to test them",
            "nothing was signed; see the report, and run the audit again with more tiles",
        )
    raise ReleaseRefusedError(
        f"the privacy checks refused the release: {', '.join(audit.failed)} failed",
        "nothing was signed; see the report, then leave out the tiles it shows or redraw them",
    )


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
