"""Why a hub says no, in words that programs compare, and the HTTP status that goes with each."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """The ``code`` of an error that the hub's API answers with."""

    MALFORMED = "malformed"
    SIGNATURE = "signature"
    CLOCK = "clock"
    REPLAY = "replay"
    UNKNOWN_KEY = "unknown_key"
    PENDING = "pending"
    REVOKED = "revoked"
    INVITATION = "invitation"
    LOGIN = "login"
    FORBIDDEN = "forbidden"
    CSRF = "csrf"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    WRONG_OFFSET = "wrong_offset"
    LOCKED = "locked"
    INCOMPLETE = "incomplete"
    CHECKSUM = "checksum"
    FILE_DIGEST = "file_digest"
    TOO_LARGE = "too_large"
    QUOTA = "quota"
    DISK_FULL = "disk_full"
    TOO_MANY = "too_many"
    UNAVAILABLE = "unavailable"

    @property
    def status(self) -> int:
        """The HTTP status; 460 is that of tus's checksum extension."""
        return _STATUS[self]


_STATUS = {
    Refusal.MALFORMED: 422,
    Refusal.SIGNATURE: 401,
    Refusal.CLOCK: 401,
    Refusal.REPLAY: 401,
    Refusal.UNKNOWN_KEY: 401,
    Refusal.PENDING: 403,
    Refusal.REVOKED: 403,
    Refusal.INVITATION: 403,
    Refusal.LOGIN: 401,
    Refusal.FORBIDDEN: 403,
    Refusal.CSRF: 403,
    Refusal.NOT_FOUND: 404,
    Refusal.CONFLICT: 409,
    Refusal.WRONG_OFFSET: 409,
    Refusal.LOCKED: 423,
    Refusal.INCOMPLETE: 409,
    Refusal.CHECKSUM: 460,
    Refusal.FILE_DIGEST: 460,
    Refusal.TOO_LARGE: 413,
    Refusal.QUOTA: 413,
    Refusal.DISK_FULL: 507,
    Refusal.TOO_MANY: 429,
    Refusal.UNAVAILABLE: 503,
}
