"""Uploads in progress: files on the disk, offsets, digests, quotas. HTTP is in `hub_server.web`.

The disk is the only record. The offset of a file is its size, synced before it is acknowledged, so
neither a killed hub nor a lost database loses a byte. ::

    uploads/<id>/offer.json   whose it is, and the files that were announced
    uploads/<id>/parts/       files that are not whole yet
    uploads/<id>/bundle/      whole files whose digest holds; the intake reads only this
"""

from hub_server.uploads.receiving import Receiver
from hub_server.uploads.settings import UploadSettings
from hub_server.uploads.store import UploadStore
from hub_server.uploads.upload import Upload

__all__ = ["Receiver", "Upload", "UploadSettings", "UploadStore"]
