"""Check a log without the hub: only its files and its public key are needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub_server.log.act import REMEDY, read_act
from hub_server.log.checkpoint import Checkpoint, read_checkpoint
from hub_server.log.files import LogFiles
from pixcell_share.bundles import PublicKey
from pixcell_share.errors import HubLogError


@dataclass(frozen=True)
class VerifiedLog:
    """A log that holds."""

    checkpoint: Checkpoint
    """The hub's latest."""
    older: Checkpoint | None
    """The one that it was compared with."""


def verify_log(folder: Path, key: PublicKey, older: bytes | None = None) -> VerifiedLog:
    """Check every act, the chain, the tree and its signature.

    Args:
        folder: the hub's log, or a copy of it (``acts.jsonl`` and ``checkpoint``).
        key: the hub's.
        older: a checkpoint that was kept, to find a log that was rolled back or written anew.

    Raises:
        HubLogError: an act was edited, removed, moved, or is not signed for; or the log is not the
            one of ``older``.
    """
    files = LogFiles(folder)
    with files.shared():
        return _verified(files, key, older)


def _verified(files: LogFiles, key: PublicKey, older: bytes | None) -> VerifiedLog:
    try:
        signed = read_checkpoint(files.checkpoint.read_bytes(), key)
    except OSError as error:
        raise HubLogError(f"there is no checkpoint in {files.folder}", "check the path") from error
    kept = None if older is None else read_checkpoint(older, key)
    if kept is not None and kept.size > signed.size:
        raise HubLogError(
            f"the log ends with act {signed.size}, and the kept checkpoint knows {kept.size}: it "
            "was rolled back",
            REMEDY,
        )
    if _replayed(files, key, signed, kept) != signed:
        raise HubLogError("the acts are not those that the hub signed for", REMEDY)
    return VerifiedLog(signed, kept)


def _replayed(
    files: LogFiles, key: PublicKey, signed: Checkpoint, kept: Checkpoint | None
) -> Checkpoint:
    """The checkpoint that the acts themselves lead to."""
    _check_length(files.size(), signed)
    mark = Checkpoint.empty(key, signed.time)
    _compare(mark, kept)
    for number, line in enumerate(files.lines(), 1):
        act = read_act(line, number)
        if act.previous != mark.last or (mark.size and act.time < mark.time):
            raise HubLogError(f"act {number} of the log does not follow the one before", REMEDY)
        mark = mark.after(line, act.time)
        _compare(mark, kept)
    return mark


def _compare(mark: Checkpoint, kept: Checkpoint | None) -> None:
    if kept is not None and mark.size == kept.size and mark.root != kept.root:
        raise HubLogError(
            f"the first {kept.size} acts are not those of the kept checkpoint: the log was forked "
            "or written anew",
            REMEDY,
        )


def _check_length(size: int, signed: Checkpoint) -> None:
    if size < signed.length:
        raise HubLogError(
            f"the log has {size} bytes, and the hub signed for {signed.length}: it was cut", REMEDY
        )
    if size > signed.length:
        raise HubLogError(
            f"the hub has not signed for the last {size - signed.length} bytes of the log",
            "let the hub do one more act, which mends what a crash left, and verify again",
        )
