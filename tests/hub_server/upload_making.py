"""Files to announce and to send."""

from __future__ import annotations

import hashlib
import random

from hub_server.uploads import UploadSettings
from pixcell_share.wire import FileOffer, UploadOffer

SMALL = UploadSettings(disk_floor_bytes=1, open_uploads=2)


def make_files(seed: int = 0, shard_bytes: int = 3000) -> dict[str, bytes]:
    """Bytes by the names of a bundle; nothing that an intake would take."""
    source = random.Random(seed)
    sizes = {
        "manifest.dsse.json": 400,
        "audit.dsse.json": 300,
        "shard-00000.h5": shard_bytes,
        "shard-00001.h5": shard_bytes // 2,
    }
    return {name: source.randbytes(size) for name, size in sizes.items()}


def offer_for(files: dict[str, bytes]) -> UploadOffer:
    """What announces ``files``."""
    offers = tuple(
        FileOffer(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    )
    return UploadOffer(hashlib.sha256(files["manifest.dsse.json"]).hexdigest(), offers)
