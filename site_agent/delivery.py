"""Bring all files of a bundle to the hub, over several connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixcell_share.errors import HubError
from pixcell_share.progress import Advance, View
from pixcell_share.wire import FileOffer, Refusal
from site_agent.file_sender import FileSender
from site_agent.hub_client import HubClient
from site_agent.outbox import Outbox
from site_agent.patience import Patience
from site_agent.pieces import PieceSize
from site_agent.team import Work, work_through

_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SendSettings:
    """How to send."""

    connections: int = 3
    """Files that are sent at the same time."""
    wait: bool = True
    """Wait for the hub's verdict."""
    give_up_after_s: float | None = None
    """Give up after so many seconds without progress; None: never."""


class Delivery:
    """One run of sending one bundle."""

    def __init__(self, client: HubClient, box: Outbox, view: View, settings: SendSettings) -> None:
        self._client, self._box, self._view, self._settings = client, box, view, settings
        self._told = ""
        self.bytes_sent = 0
        """By this run."""

    def deliver(self) -> dict[str, Any]:
        """Send what the hub has not; what became of the bundle, as the hub says it.

        Raises:
            BundleError: a file differs from the manifest.
            HubError: the hub refuses it, or does not answer for longer than the settings allow.
        """
        while True:
            begun = self._ask("POST", "/uploads", self._box.offer.to_document())
            if begun["cohort"] is not None:
                known: dict[str, Any] = begun["cohort"]
                return known
            self._box.upload_id = begun["upload_id"]
            self._box.save()
            try:
                self._send_files(begun)
                return self._finish(begun["upload_id"])
            except HubError as error:
                if error.reason not in (Refusal.NOT_FOUND, Refusal.INCOMPLETE):
                    raise
                self._view.say("the hub has given the upload up; it is begun again")

    def _finish(self, upload_id: str) -> dict[str, Any]:
        try:
            return self._ask("POST", f"/uploads/{upload_id}/finish")
        except HubError as error:
            if error.reason != Refusal.NOT_FOUND:
                raise
        # An earlier answer was lost, and the hub has taken the bundle in meanwhile.
        return self._ask("GET", f"/cohorts/{self._box.offer.bundle_digest}")

    def _send_files(self, begun: dict[str, Any]) -> None:
        total, offsets = self._box.offer.total_bytes, dict(begun["offsets"])
        done = sum(offsets.values()) // _MB
        with self._view.stage("send", total // _MB, "MB", done) as advance:
            progress = Progress(offsets, advance)
            left = [file for file in self._box.offer.files if offsets[file.name] < file.size]
            try:
                work_through(left, self._worker(begun, progress), self._settings.connections)
            finally:
                self.bytes_sent += progress.sent

    def _worker(
        self, begun: dict[str, Any], progress: Progress
    ) -> Callable[[threading.Event], Work[FileOffer]]:
        """What each thread does with a file."""

        def start(stop: threading.Event) -> Work[FileOffer]:
            sender = FileSender(
                client=self._client,
                upload=f"/uploads/{begun['upload_id']}",
                bundle=self._box.bundle,
                piece=PieceSize(begun["request_bytes"]),
                patience=Patience(self._settings.give_up_after_s, stop),
                stop=stop,
                on_offset=progress.set,
                on_waiting=self._tell,
            )

            def work(file: FileOffer) -> None:
                self._box.check(file)
                sender.send(file, progress.offsets[file.name])

            return work

        return start

    def _ask(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        patience = Patience(self._settings.give_up_after_s, on_waiting=self._tell)
        answer = patience.ask(lambda: self._client.call(method, path, document))
        found: dict[str, Any] = answer.json()
        return found

    def _tell(self, error: HubError) -> None:
        """Say why it waits, once for each cause in a row."""
        if error.cause != self._told:
            self._told = error.cause
            self._view.say(f"waiting: {error.cause}")


class Progress:
    """How much of each file the hub has, shown in whole megabytes; for several threads."""

    def __init__(self, offsets: dict[str, int], advance: Advance) -> None:
        self.offsets = offsets
        self.sent = 0
        self._advance = advance
        self._shown = sum(offsets.values()) // _MB
        self._turn = threading.Lock()

    def set(self, name: str, offset: int) -> None:
        """The hub has ``offset`` bytes of ``name``; fewer than before where it lost some."""
        with self._turn:
            self.sent += max(0, offset - self.offsets[name])
            self.offsets[name] = offset
            shown = sum(self.offsets.values()) // _MB
            self._advance(shown - self._shown)
            self._shown = shown
