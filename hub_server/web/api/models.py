"""The documents of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pixcell_share.wire import FileOffer, UploadOffer

Text = Annotated[str, Field(max_length=200)]
LongText = Annotated[str, Field(max_length=4000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Document(BaseModel):
    """No unknown fields, nothing turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OfferedFile(Document):
    """One file of a bundle."""

    name: Text
    size: int
    sha256: Digest


class Offer(Document):
    """All files of a bundle."""

    bundle_digest: Digest
    files: list[OfferedFile]

    def parsed(self) -> UploadOffer:
        """As both sides know it.

        Raises:
            UploadError: a name, a size or a digest is not one of a bundle.
        """
        files = tuple(FileOffer(file.name, file.size, file.sha256) for file in self.files)
        return UploadOffer(self.bundle_digest, files)


class CohortStatus(Document):
    """What became of a bundle."""

    cohort: Digest
    state: str
    reason: str | None = None
    """Code of the rejection."""
    detail: str | None = None
    """The rejection in words."""
    changed_at: datetime
    summary: dict[str, Any] | None = None
    """The hub's signed verification summary (DSSE), once it is accepted."""


class UploadBegun(Document):
    """What is here of an upload; or what became of the bundle, if the hub has it already."""

    upload_id: str | None = None
    offsets: dict[str, int] = {}
    """Bytes that are here, by file."""
    request_bytes: int = 0
    """The most that one PATCH may bring."""
    expires_at: float = 0.0
    """When it is deleted if no byte comes, in seconds since 1970."""
    cohort: CohortStatus | None = None


class JoinRequest(Document):
    """A site's key for an invitation."""

    code: Text
    site: Text
    public_key: LongText
    """In PEM."""


class JoinStatus(Document):
    """Where a site stands."""

    site: str
    key_id: Digest
    status: str
    """``pending`` or ``active``."""


class RotationRequest(Document):
    """A new key, signed by the old one; see `pixcell_share.wire.rotation`."""

    public_key: LongText
    by_old: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    by_new: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Login(Document):
    """A name and a password."""

    name: Text
    password: LongText


class LoggedIn(Document):
    """Who is logged in."""

    name: str
    role: str
    csrf: str
    """Sent back as ``X-CSRF-Token`` with everything that changes something."""
