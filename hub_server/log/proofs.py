"""Proofs that one can check with a checkpoint alone, without the log."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hub_server.log.act import REMEDY, Act, read_act
from hub_server.log.checkpoint import Checkpoint, read_checkpoint
from hub_server.log.files import LogFiles
from hub_server.log.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from hub_server.log.verifying import verify_log
from pixcell_share.bundles import PublicKey
from pixcell_share.errors import HubLogError, NotFoundError


@dataclass(frozen=True)
class InclusionProof:
    """That an act is in the log."""

    line: str
    """The act, as it stands in the log."""
    sequence: int
    hashes: tuple[str, ...]
    """Siblings on the way to the root, 64 hex digits each."""
    checkpoint: str
    """The signed note that the proof ends in."""

    def to_json(self) -> str:
        """The proof as a file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> InclusionProof:
        """Read the file; nothing is trusted before `check`.

        Raises:
            HubLogError: it is no such proof.
        """
        kinds = {"line": str, "sequence": int, "hashes": list, "checkpoint": str}
        return cls(**_values(text, kinds))

    def check(self, key: PublicKey) -> tuple[Act, Checkpoint]:
        """The act and the checkpoint, if the hub with ``key`` signed for it.

        Raises:
            HubLogError: it did not.
        """
        mark = read_checkpoint(self.checkpoint.encode(), key)
        line = self.line.encode()
        act, hashes = read_act(line, self.sequence), _hashes(self.hashes)
        leaf = leaf_hash(line)
        if not verify_inclusion(leaf, self.sequence - 1, mark.size, hashes, mark.root):
            raise HubLogError("the proof does not show that this act is in the log", REMEDY)
        return act, mark


@dataclass(frozen=True)
class ConsistencyProof:
    """That the log only grew between two checkpoints."""

    older: str
    """The signed note of then."""
    newer: str
    """The signed note of now."""
    hashes: tuple[str, ...]
    """64 hex digits each."""

    def to_json(self) -> str:
        """The proof as a file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ConsistencyProof:
        """Read the file; nothing is trusted before `check`.

        Raises:
            HubLogError: it is no such proof.
        """
        return cls(**_values(text, {"older": str, "newer": str, "hashes": list}))

    def check(self, key: PublicKey) -> tuple[Checkpoint, Checkpoint]:
        """Both checkpoints, if the hub with ``key`` signed them and the log only grew.

        Raises:
            HubLogError: otherwise.
        """
        older = read_checkpoint(self.older.encode(), key)
        newer = read_checkpoint(self.newer.encode(), key)
        hashes = _hashes(self.hashes)
        if not verify_consistency(older.size, older.root, newer.size, newer.root, hashes):
            raise HubLogError("the proof does not show that the log only grew", REMEDY)
        return older, newer


def read_proof(text: str) -> InclusionProof | ConsistencyProof:
    """A proof of either kind; nothing is trusted before its ``check``.

    Raises:
        HubLogError: it is neither.
    """
    try:
        return InclusionProof.from_json(text)
    except HubLogError:
        return ConsistencyProof.from_json(text)


def prove_inclusion(folder: Path, key: PublicKey, sequence: int) -> InclusionProof:
    """That the act with this number is in the log.

    Raises:
        HubLogError: the log does not hold.
        NotFoundError: there is no such act.
    """
    files = LogFiles(folder)
    with files.shared():
        size = verify_log(folder, key).checkpoint.size
        lines, note = list(files.lines()), files.checkpoint.read_text()
    if not 1 <= sequence <= size:
        raise NotFoundError(f"the log has no act {sequence}", f"it has {size}")
    hashes = inclusion_proof([leaf_hash(line) for line in lines], sequence - 1)
    return InclusionProof(lines[sequence - 1].decode(), sequence, _texts(hashes), note)


def prove_consistency(folder: Path, key: PublicKey, older: bytes) -> ConsistencyProof:
    """That the log has only grown since the checkpoint ``older``.

    Raises:
        HubLogError: the log does not hold, or is not the one of ``older``.
        NotFoundError: ``older`` is from before the first act, which proves nothing.
    """
    before = read_checkpoint(older, key).size
    if not before:
        raise NotFoundError("the kept checkpoint is from before the first act", "keep a later one")
    files = LogFiles(folder)
    with files.shared():
        verify_log(folder, key, older)
        leaves = [leaf_hash(line) for line in files.lines()]
        note = files.checkpoint.read_text()
    return ConsistencyProof(older.decode(), note, _texts(consistency_proof(leaves, before)))


def _values(text: str, kinds: dict[str, type]) -> dict[str, Any]:
    try:
        values = json.loads(text)
        known = values.keys() == kinds.keys()
        if known and all(isinstance(values[name], kind) for name, kind in kinds.items()):
            return {**values, "hashes": tuple(values["hashes"])}
    except (ValueError, AttributeError, RecursionError) as error:
        raise _no_proof() from error
    raise _no_proof()


def _hashes(texts: tuple[str, ...]) -> list[bytes]:
    try:
        return [bytes.fromhex(text) for text in texts]
    except (ValueError, TypeError) as error:
        raise _no_proof() from error


def _texts(hashes: list[bytes]) -> tuple[str, ...]:
    return tuple(each.hex() for each in hashes)


def _no_proof() -> HubLogError:
    return HubLogError("the file is no proof about a log", "make one with `pixcell-hub log prove`")
