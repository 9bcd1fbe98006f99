"""A copy of the log to take away, with all that it takes to check it."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import IO

from hub_server.log import HubLog, read_checkpoint
from pixcell_share.bundles import SiteKey

_README = """\
Unpack this, then check it without the hub:

    pixcell-hub log verify --folder hub-log --key hub-log/hub.pub

Compare the fingerprint of hub.pub with the one that the hub's operator gave you. Keep the file
"checkpoint": with --since it shows later whether anything before it was changed.
"""
_IN_MEMORY = 8 << 20


def open_copy(folder: Path, log: HubLog, key: SiteKey) -> IO[bytes]:
    """A ZIP file with the acts that the latest checkpoint covers, at its beginning.

    Args:
        folder: of the log.
        log: likewise.
        key: the hub's.
    """
    note = log.checkpoint()
    length = read_checkpoint(note, key.public).length
    stream = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller reads it
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as copy:
        copy.writestr("hub-log/README.txt", _README)
        copy.writestr("hub-log/hub.pub", key.public_pem)
        copy.writestr("hub-log/checkpoint", note)
        with copy.open("hub-log/acts.jsonl", "w", force_zip64=True) as target:
            _copy_start(folder / "acts.jsonl", length, target)
    stream.seek(0)
    return stream


def _copy_start(path: Path, length: int, target: IO[bytes]) -> None:
    """The first ``length`` bytes: what is appended meanwhile has a later checkpoint."""
    if not length:
        return
    with path.open("rb") as source:
        while length > 0 and (block := source.read(min(length, 1 << 20))):
            target.write(block)
            length -= len(block)
