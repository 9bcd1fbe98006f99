"""What a site says it will send: the files of one bundle, each with its size and digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixcell_share.bundles._codec import COHORT_PREDICATE, MANIFEST_NAME, SIDE_FILES
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._folder import opened_folder, read_small
from pixcell_share.bundles._json import MAX_JSON_BYTES
from pixcell_share.bundles._statement import read_statement
from pixcell_share.bundles.faults import Fault
from pixcell_share.bundles.keys import PublicKey
from pixcell_share.errors import DigestError, UploadError
from pixcell_share.wire.refusals import Refusal

_SHARD = re.compile(r"shard-[0-9]{5}\.h5", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class FileOffer:
    """One file."""

    name: str
    """One of the names that a bundle may hold, and no other: a path cannot be among them."""
    size: int
    """In bytes."""
    sha256: str
    """Of the whole file, 64 hex digits."""

    def __post_init__(self) -> None:
        if not may_be_sent(self.name):
            raise _wrong("a file has a name that no bundle has")  # a stranger's is not repeated
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise _wrong(f"{self.name} has no size")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise _wrong(f"the digest of {self.name} is not 64 hex digits")


@dataclass(frozen=True)
class UploadOffer:
    """All files of one bundle, by name."""

    bundle_digest: str
    """SHA-256 of the manifest: the bundle's name."""
    files: tuple[FileOffer, ...]

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise _wrong("a file is named twice")
        if self.digests().get(MANIFEST_NAME) != self.bundle_digest:
            raise _wrong(f"the bundle's digest is not that of its {MANIFEST_NAME}")

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    def digests(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {file.name: file.sha256 for file in self.files}

    def file(self, name: str) -> FileOffer | None:
        """The file of that name."""
        return next((file for file in self.files if file.name == name), None)

    def to_document(self) -> dict[str, Any]:
        """As it is sent and kept."""
        return {
            "bundle_digest": self.bundle_digest,
            "files": [asdict(file) for file in self.files],
        }

    @classmethod
    def from_document(cls, document: Any) -> UploadOffer:
        """Read what `to_document` wrote, or a stranger.

        Raises:
            UploadError: a field is missing or wrong.
        """
        try:
            files = tuple(FileOffer(f["name"], f["size"], f["sha256"]) for f in document["files"])
            return cls(str(document["bundle_digest"]), files)
        except (KeyError, TypeError) as error:
            raise _wrong("a field is missing or of another type") from error


def offer_of(bundle: Path, key: PublicKey) -> UploadOffer:
    """What a site offers of a bundle that it wrote: the files that the manifest signs, and itself.

    Args:
        bundle: its folder.
        key: the site's; a bundle that another one signed is not offered.

    Raises:
        BundleError: the manifest or a file is missing, or is not what a site writes and signs.
    """
    with opened_folder(bundle) as directory:
        raw = read_small(directory, MANIFEST_NAME, MAX_JSON_BYTES)
    envelope = Envelope.from_bytes(raw, MANIFEST_NAME)
    envelope.check([key], MANIFEST_NAME)
    listed, _ = read_statement(envelope.payload, MANIFEST_NAME, COHORT_PREDICATE)
    digest = hashlib.sha256(raw).hexdigest()
    files = tuple(
        FileOffer(name, _size(bundle / name), sha256)
        for name, sha256 in [(MANIFEST_NAME, digest), *listed]
    )
    return UploadOffer(digest, files)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise DigestError(
            f"{path.name} is missing from the bundle",
            "make the bundle again with `pixcell-site synthesize`",
            Fault.FILE_MISSING,
        ) from error


def may_be_sent(name: object) -> bool:
    """Whether a bundle has a file of this name."""
    if not isinstance(name, str):
        return False
    return name == MANIFEST_NAME or name in SIDE_FILES or _SHARD.fullmatch(name) is not None


def _wrong(cause: str) -> UploadError:
    return UploadError(
        f"the list of files is wrong: {cause}", "send a bundle as it was written", Refusal.MALFORMED
    )
