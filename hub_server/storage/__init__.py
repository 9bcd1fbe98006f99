"""Where accepted cohorts and encoders are kept: a folder, or an object store by its URL."""

from __future__ import annotations

from pathlib import Path

from hub_server.storage.blocks import Stored
from hub_server.storage.local import LocalStorage
from hub_server.storage.objects import ObjectStorage
from hub_server.storage.storage import Storage

__all__ = ["LocalStorage", "ObjectStorage", "Storage", "Stored", "open_storage"]


def open_storage(url: str) -> Storage:
    """The storage at ``url``: a folder's path, ``file://``, ``s3://bucket/prefix``, ``memory:///``
    and what else obstore knows.

    Raises:
        SettingsError: obstore does not know it, or misses a setting.
    """
    if "://" not in url or url.startswith("file://"):
        return LocalStorage(Path(url.removeprefix("file://")))
    return ObjectStorage(url)
