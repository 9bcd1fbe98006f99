"""The local way in: a folder that the operator has, under the same limits as an upload."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hub_server.intake.reasons import Reason
from hub_server.uploads.settings import UploadSettings
from pixcell_share.bundles._codec import MANIFEST_NAME
from pixcell_share.bundles._folder import (
    RESEND,
    list_plain_files,
    opened,
    opened_folder,
    read_small,
    shown,
    size_limit,
)
from pixcell_share.bundles._json import MAX_JSON_BYTES
from pixcell_share.errors import DigestError, FormatError, StorageError
from pixcell_share.files import storage_errors
from pixcell_share.wire.offers import may_be_sent


def read_manifest_file(folder: Path) -> bytes:
    """The bytes of the manifest, which may be anything.

    Raises:
        BundleError: there is no folder, no such plain file in it, or it is too large.
    """
    with opened_folder(folder) as directory:
        return read_small(directory, MANIFEST_NAME, MAX_JSON_BYTES)


def measure(folder: Path, settings: UploadSettings, stored_bytes: int = 0) -> dict[str, int]:
    """Size in bytes of each file by name, if all of them may be in a bundle.

    Args:
        folder: the bundle.
        settings: sizes and quota.
        stored_bytes: what the site has on the hub already.

    Raises:
        BundleError: something is no plain file, has a name that no bundle has, or is too large.
        StorageError: the hub's disk has no room for it.
    """
    with opened_folder(folder) as directory:
        sizes = list_plain_files(directory)
    for name, size in sorted(sizes.items()):
        if not may_be_sent(name):
            cause = f"{shown(name)} is a file that no bundle has"
            raise DigestError(cause, "remove it, if you put it there", Reason.FILE_EXTRA)
        limit = min(size_limit(name), settings.file_bytes)
        if size > limit:
            cause = f"{name} is larger than {limit} bytes"
            raise FormatError(cause, RESEND, Reason.FILE_TOO_LARGE)
    total = sum(sizes.values())
    if len(sizes) > settings.files or stored_bytes + total > settings.site_bytes:
        raise FormatError(
            f"the bundle has {len(sizes)} files of {total} bytes beside {stored_bytes} of the site "
            f"here; {settings.files} files and {settings.site_bytes} bytes of a site may be",
            "raise [uploads] in hub.toml, or withdraw cohorts of the site",
            Reason.OVER_QUOTA,
        )
    return sizes


def copy_bundle(
    folder: Path, part: Path, sizes: Mapping[str, int], settings: UploadSettings
) -> None:
    """Copy the files of a bundle to the empty folder ``part``; all of it is on the disk then.

    Args:
        folder: the bundle.
        part: made anew.
        sizes: from `measure`; of a file that grows meanwhile no more is copied.
        settings: how much of the disk stays free.

    Raises:
        BundleError: a file went away, or is no plain file any more.
        StorageError: the disk is full.
    """
    with storage_errors(part), opened_folder(folder) as directory:
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        _check_room(part, sum(sizes.values()) + settings.disk_floor_bytes)
        for name, size in sizes.items():
            with opened(directory, name) as source, (part / name).open("wb") as target:
                _copy(source, target.fileno(), size)
                os.fsync(target.fileno())


def _copy(source: int, target: int, size: int) -> None:
    done = 0
    while done < size and (count := os.sendfile(target, source, done, size - done)):
        done += count


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the intake needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the disk are free",
            "free some space, then run the same command again: nothing was changed",
        )
