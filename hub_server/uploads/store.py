"""All uploads in progress of a hub, and what each site may still send."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

from hub_server.uploads.receiving import Receiver, disk_full, free_bytes
from hub_server.uploads.settings import UploadSettings
from hub_server.uploads.upload import Upload, upload_id
from pixcell_share.bundles._preview import MAX_PREVIEW_BYTES
from pixcell_share.errors import StorageError, UploadError
from pixcell_share.files import storage_errors
from pixcell_share.wire import FileOffer, Refusal, UploadOffer

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class UploadStore:
    """The folder ``uploads`` of a hub. Its methods may be called from any thread."""

    def __init__(self, folder: Path, settings: UploadSettings) -> None:
        self.folder = folder
        self.settings = settings
        self._beginning = threading.Lock()
        self._load = lru_cache(maxsize=256)(lambda folder, _inode: Upload.load(folder))

    def begin(self, site_id: str, offer: UploadOffer, *, stored_bytes: int = 0) -> Upload:
        """The upload of this bundle by this site: the one begun before, or a new one.

        Args:
            site_id: the site that sends.
            offer: what it announces.
            stored_bytes: what the site has on the hub besides uploads in progress.

        Raises:
            UploadError: too large, over the site's quota, more than the disk holds, or begun
                before with another list of files.
        """
        self._check_sizes(offer)
        with self._beginning:
            if found := self._existing(site_id, offer):
                found.touch()
                return found
            self._check_quota(site_id, offer, stored_bytes)
            new = Upload(self.folder / upload_id(site_id, offer.bundle_digest), site_id, offer)
            try:
                with storage_errors(new.folder):
                    new.save()
            except StorageError as error:
                raise disk_full() from error
            return new

    def find(self, site_id: str, name: str) -> Upload:
        """The upload ``name`` of this site.

        Raises:
            UploadError: there is none, it expired, or it is another site's.
        """
        upload = self._loaded(self.folder / name) if _ID.fullmatch(name) else None
        if upload is None or upload.site_id != site_id:
            raise UploadError(
                "there is no such upload of this site",
                "begin it again: an upload that stands still for long is deleted",
                Refusal.NOT_FOUND,
            )
        return upload

    def file(self, upload: Upload, name: str) -> FileOffer:
        """What was announced of the file ``name``.

        Raises:
            UploadError: it was not announced.
        """
        if (file := upload.offer.file(name)) is None:
            raise UploadError(
                "the upload has no file of this name",
                "send only what was announced",
                Refusal.NOT_FOUND,
            )
        return file

    def receive(self, upload: Upload, file: FileOffer) -> Receiver:
        """Open a file for one request; the caller closes it.

        Raises:
            UploadError: another request writes it, or it is whole.
        """
        return Receiver(upload, file, self.settings)

    def check_whole(self, upload: Upload) -> None:
        """All that was announced is here.

        Raises:
            UploadError: a file is not whole.
        """
        if missing := upload.missing:
            raise UploadError(
                f"{len(missing)} of {len(upload.offer.files)} files are not whole yet, "
                f"{missing[0]} among them",
                "send the rest first",
                Refusal.INCOMPLETE,
            )

    def remove(self, name: str) -> None:
        """Delete the upload ``name`` with all its files; nothing happens where there is none."""
        if not _ID.fullmatch(name):
            raise ValueError(f"{name!r} is no upload")
        leaving = self.folder / f".{name}.leaving"
        shutil.rmtree(leaving, ignore_errors=True)
        try:
            (self.folder / name).rename(leaving)
        except FileNotFoundError:
            return
        shutil.rmtree(leaving)

    def expire(self, needed: Collection[str] = (), now: float | None = None) -> list[Upload]:
        """Delete what got no byte for `UploadSettings.expire_s`; returns what it was.

        Args:
            needed: digests of bundles that the intake still reads.
            now: in seconds since 1970.
        """
        limit = (time.time() if now is None else now) - self.settings.expire_s
        old = [u for u in self.uploads() if u.last_byte_at < limit]
        old = [u for u in old if u.offer.bundle_digest not in needed]
        for upload in old:
            self.remove(upload.id)
        return old

    def expires_at(self, upload: Upload) -> float:
        """When it will be deleted if no byte comes, in seconds since 1970."""
        return upload.last_byte_at + self.settings.expire_s

    def uploads(self) -> Iterator[Upload]:
        """Every upload in progress."""
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            if _ID.fullmatch(folder.name) and (upload := self._loaded(folder)):
                yield upload

    def _loaded(self, folder: Path) -> Upload | None:
        """Read once: `Upload` changes on the disk, never in memory."""
        try:
            return self._load(folder, Upload.inode(folder))
        except FileNotFoundError:
            return None

    def _existing(self, site_id: str, offer: UploadOffer) -> Upload | None:
        found = self._loaded(self.folder / upload_id(site_id, offer.bundle_digest))
        if found and found.offer.digests() != offer.digests():
            raise UploadError(
                "this bundle was announced before with other files",
                "cancel that upload, then send the bundle as it was written",
                Refusal.CONFLICT,
            )
        return found

    def _check_sizes(self, offer: UploadOffer) -> None:
        if len(offer.files) > self.settings.files:
            raise _over(f"{len(offer.files)} files", f"{self.settings.files} files")
        for file in offer.files:
            limit = self.settings.file_bytes
            if not file.name.endswith(".h5"):
                limit = min(limit, MAX_PREVIEW_BYTES)
            if file.size > limit:
                raise _over(f"{file.size} bytes of {file.name}", f"{limit} bytes for such a file")

    def _check_quota(self, site_id: str, offer: UploadOffer, stored_bytes: int) -> None:
        begun = list(self.uploads())
        own = [upload for upload in begun if upload.site_id == site_id]
        if sum(bool(upload.missing) for upload in own) >= self.settings.open_uploads:
            raise _over("one more upload", f"{self.settings.open_uploads} at the same time")
        held = stored_bytes + sum(upload.offer.total_bytes for upload in own)
        if held + offer.total_bytes > self.settings.site_bytes:
            limit = f"{self.settings.site_bytes} bytes for one site, of which {held} are taken"
            raise _over(f"{offer.total_bytes} bytes", limit)
        promised = sum(u.offer.total_bytes - u.received_bytes for u in begun)
        room = free_bytes(self.folder) - promised - self.settings.disk_floor_bytes
        if offer.total_bytes > room:
            raise disk_full()


def _over(what: str, limit: str) -> UploadError:
    return UploadError(
        f"{what} are more than the hub takes: {limit}", "ask the hub's operator", Refusal.QUOTA
    )
