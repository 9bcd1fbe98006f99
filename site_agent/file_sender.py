"""Send the files of one upload, piece by piece, over one connection."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.errors import HubError
from pixcell_share.wire import FileOffer, Refusal
from site_agent.hub_client import HubClient
from site_agent.patience import Patience, StoppedError
from site_agent.pieces import PieceSize

_MOST_REPAIRS = 5
"""Pieces of one file that arrive changed; more are no accident."""
_CHANGED = (Refusal.CHECKSUM, Refusal.FILE_DIGEST)
_SETTLING_S = 0.5


@dataclass(frozen=True)
class FileSender:
    """Sends one file after the other; each thread has its own.

    Nothing is assumed after a failure: the hub is asked how much it has, and it goes on from there.
    """

    client: HubClient
    upload: str
    """The upload's path below the API."""
    bundle: Path
    piece: PieceSize
    patience: Patience
    stop: threading.Event
    on_offset: Callable[[str, int], object]
    """Told the name of a file and how much of it the hub has."""
    on_waiting: Callable[[HubError], object]
    """Told why it waits."""

    def send(self, file: FileOffer, offset: int) -> None:
        """Send the rest of ``file``.

        Args:
            file: one of the bundle.
            offset: how much the hub is believed to have.

        Raises:
            HubError: the hub refuses it, or patience is at its end.
            StoppedError: the caller wants to stop.
        """
        path, repairs = f"{self.upload}/{file.name}", 0
        with (self.bundle / file.name).open("rb") as source:
            while offset < file.size:
                data = os.pread(source.fileno(), self.piece.bytes, offset)
                try:
                    offset = self._timed(path, offset, data)
                except HubError as error:
                    repairs += error.reason in _CHANGED
                    if repairs > _MOST_REPAIRS:
                        raise
                    offset = self._recover(file.name, offset, error)
                self.on_offset(file.name, offset)

    def _timed(self, path: str, offset: int, data: bytes) -> int:
        began = time.monotonic()
        end = self.client.send_piece(path, offset, data, self.stop.is_set)
        self.piece.took(len(data), time.monotonic() - began)
        self.patience.progress()
        return end

    def _recover(self, name: str, before: int, error: HubError) -> int:
        """Wait if it is worth it, and ask where to go on."""
        if self.stop.is_set():
            raise StoppedError
        if error.reason == Refusal.WRONG_OFFSET:  # a connection given up here still wrote there
            self.patience.pause(_SETTLING_S)
        elif error.reason not in _CHANGED:
            self.piece.failed()
            self.on_waiting(error)
            self.patience.wait(error)
        offset = self.patience.ask(lambda: self.client.offset(self.upload, name))
        if offset > before:
            self.patience.progress()
        return offset
