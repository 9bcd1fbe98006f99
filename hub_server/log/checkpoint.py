"""What the hub signs about its log: how many acts, and the root of the tree over them.

A checkpoint is a signed note (https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint)::

    pixcell-hub/3f2a91c0d4e5b6a7
    3
    <root, base64>
    time 2026-11-26T18:20:00.000000Z
    bytes 812
    last <SHA-256 of the last line, hex>
    frontier <roots of the full subtrees, base64>

    — pixcell-hub/3f2a91c0d4e5b6a7 <key hash and Ed25519 signature, base64>

The lines after the root are extensions: they let the next act be added without reading the log.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from hub_server.log.act import REMEDY, genesis, line_digest
from hub_server.log.merkle import Frontier, leaf_hash
from pixcell_share.bundles import PublicKey, SiteKey
from pixcell_share.errors import HubLogError

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_ED25519 = b"\x01"
"""The signature type of signed notes."""
_NOTE = re.compile(
    r"""(?P<text>(?P<origin>pixcell-hub/[0-9a-f]{16})\n
(?P<size>0|[1-9][0-9]{0,17})\n
(?P<root>[A-Za-z0-9+/]{43}=)\n
time\ (?P<time>\S+)\n
bytes\ (?P<bytes>0|[1-9][0-9]{0,17})\n
last\ (?P<last>[0-9a-f]{64})\n
frontier(?P<frontier>(?:\ [A-Za-z0-9+/]{43}=){0,60})\n)
\n—\ (?P<signer>\S+)\ (?P<signature>[A-Za-z0-9+/]{91}=)\n""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Checkpoint:
    """The log up to one act."""

    tree: Frontier
    """Over the lines of all acts."""
    time: datetime
    """When it was signed, UTC."""
    length: int
    """Bytes of the file up to this act."""
    last: str
    """SHA-256 of the last line; before the first act, see `hub_server.log.act.genesis`."""

    @classmethod
    def empty(cls, key: PublicKey, time: datetime) -> Checkpoint:
        """Before the first act."""
        return cls(Frontier(), time, 0, genesis(key))

    @property
    def size(self) -> int:
        """Number of acts."""
        return self.tree.size

    @property
    def root(self) -> bytes:
        """Root of the tree, 32 bytes."""
        return self.tree.root()

    def after(self, line: bytes, time: datetime) -> Checkpoint:
        """With one act more: its line, and when it was done."""
        tree = self.tree.push(leaf_hash(line))
        return Checkpoint(tree, time, self.length + len(line) + 1, line_digest(line))

    def sign(self, key: SiteKey) -> bytes:
        """The signed note."""
        origin = _origin(key.public)
        text = self._text(origin)
        signature = base64.b64encode(_key_hash(key.public) + key.sign(text.encode())).decode()
        return f"{text}\n— {origin} {signature}\n".encode()

    def _text(self, origin: str) -> str:
        frontier = "".join(f" {_base64(root)}" for root in self.tree.roots)
        return (
            f"{origin}\n{self.size}\n{_base64(self.root)}\n"
            f"time {self.time.strftime(_TIME)}\nbytes {self.length}\nlast {self.last}\n"
            f"frontier{frontier}\n"
        )


def read_checkpoint(note: bytes, key: PublicKey) -> Checkpoint:
    """A checkpoint that ``key`` signed.

    Raises:
        HubLogError: it is no checkpoint, or another key signed it, or it was edited.
    """
    try:
        found = _NOTE.fullmatch(note.decode())
        if found is None:
            raise ValueError("no match")
        roots = tuple(base64.b64decode(root) for root in found["frontier"].split())
        checkpoint = Checkpoint(
            Frontier(int(found["size"]), roots),
            datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC),
            int(found["bytes"]),
            found["last"],
        )
    except ValueError as error:
        raise HubLogError("the checkpoint of the log cannot be read", REMEDY) from error
    origin, signature = _origin(key), base64.b64decode(found["signature"])
    known = found["origin"] == found["signer"] == origin and signature[:4] == _key_hash(key)
    if not known:
        raise HubLogError(
            f"the checkpoint is signed by {found['signer']}, and the hub's key is {origin}",
            "give the public key of the hub whose log this is",
        )
    # Written anew, so that no bit of it is free: the root must be that of the frontier.
    text = checkpoint._text(origin)
    same = text == found["text"] and _base64(signature) == found["signature"]
    if not (same and key.verifies(signature[4:], text.encode())):
        raise HubLogError("the checkpoint of the log was edited", REMEDY)
    return checkpoint


def _origin(key: PublicKey) -> str:
    return f"pixcell-hub/{key.key_id[:16]}"


def _key_hash(key: PublicKey) -> bytes:
    """The first four bytes of SHA-256 of name, newline, type and raw key."""
    named = f"{_origin(key)}\n".encode()
    return hashlib.sha256(named + _ED25519 + _raw(key)).digest()[:4]


def _raw(key: PublicKey) -> bytes:
    """The 32 bytes of an Ed25519 key: they end its SubjectPublicKeyInfo (RFC 8410)."""
    body = b"".join(line for line in key.pem.splitlines() if b"-" not in line)
    return base64.b64decode(body)[-32:]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
