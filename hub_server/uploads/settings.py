"""What a site may send, and how long the hub waits for it: the table ``[uploads]`` of hub.toml."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pixcell_share.bundles.limits import MAX_SHARD_BYTES, MAX_SHARDS
from pixcell_share.errors import SettingsError

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class UploadSettings:
    """Sizes in bytes, times in seconds. All of them are enforced while bytes arrive."""

    file_bytes: int = MAX_SHARD_BYTES
    """One file; no bundle has a larger one than a shard."""
    files: int = MAX_SHARDS + 5
    """Files of one upload: shards, manifest, audit, card, metadata and preview."""
    site_bytes: int = 500 * _GIB
    """All that one site may have on the hub: open uploads and stored cohorts together."""
    open_uploads: int = 4
    """Uploads that one site may have begun and not finished."""
    disk_floor_bytes: int = 2 * _GIB
    """Disk that uploads leave free, whatever was promised to them."""
    request_bytes: int = 64 * _MIB
    """Body of one PATCH; a client sends a file in many."""
    stall_s: float = 30.0
    """A connection that brings no byte for so long is closed; each byte starts it anew."""
    expire_s: float = 14 * 86400.0
    """An upload that got no byte for so long is deleted."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise SettingsError(
                    f"uploads.{field.name} must be more than 0", "mend it in hub.toml"
                )
