"""One upload in progress, read from its folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.files import atomic_write_text, canonical_json
from pixcell_share.wire import FileOffer, UploadOffer

_OFFER = "offer.json"


@dataclass(frozen=True)
class Upload:
    """What a site announced, and how much of it is here."""

    folder: Path
    site_id: str
    offer: UploadOffer

    @property
    def id(self) -> str:
        """The name of its folder, see `upload_id`."""
        return self.folder.name

    @property
    def bundle(self) -> Path:
        """Where the whole files lie."""
        return self.folder / "bundle"

    def part(self, name: str) -> Path:
        """Where a file that is not whole lies."""
        return self.folder / "parts" / name

    def offset(self, file: FileOffer) -> int:
        """Bytes of ``file`` that count as here.

        The last byte of a file counts only once the digest of the whole holds: where a request
        broke off right after it, or the hub died, it is sent once more.
        """
        whole = self.bundle / file.name
        if whole.exists():
            return file.size
        try:
            return min(self.part(file.name).stat().st_size, file.size - 1)
        except FileNotFoundError:
            return file.size if whole.exists() else 0  # it moved between the two looks

    def offsets(self) -> dict[str, int]:
        """`offset` of every file by name."""
        return {file.name: self.offset(file) for file in self.offer.files}

    @property
    def received_bytes(self) -> int:
        """Bytes of all files that are on the disk."""
        return sum(self.offsets().values())

    @property
    def missing(self) -> tuple[str, ...]:
        """Files that are not whole."""
        return tuple(f.name for f in self.offer.files if not (self.bundle / f.name).exists())

    @property
    def last_byte_at(self) -> float:
        """When the last byte came, in seconds since 1970."""
        return (self.folder / _OFFER).stat().st_mtime

    def touch(self) -> None:
        """A byte came."""
        (self.folder / _OFFER).touch()

    def save(self) -> None:
        """Make the folder; whole once ``offer.json`` is there."""
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        self.bundle.mkdir(exist_ok=True)
        document = {"site_id": self.site_id, "offer": self.offer.to_document()}
        atomic_write_text(self.folder / _OFFER, canonical_json(document).decode())

    @staticmethod
    def inode(folder: Path) -> int:
        """Another number after an upload was deleted and begun again.

        Raises:
            FileNotFoundError: there is no such upload.
        """
        return (folder / _OFFER).stat().st_ino

    @classmethod
    def load(cls, folder: Path) -> Upload:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such upload.
        """
        document = json.loads((folder / _OFFER).read_text())
        return cls(folder, document["site_id"], UploadOffer.from_document(document["offer"]))


def upload_id(site_id: str, bundle_digest: str) -> str:
    """The same bundle of the same site is the same upload, so it is found again by its name."""
    return hashlib.sha256(f"{site_id}/{bundle_digest}".encode()).hexdigest()[:32]
