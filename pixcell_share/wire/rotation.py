"""A site's new key, vouched for by the one before it, as it is sent and kept."""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.bundles.keys import PublicKey, SiteKey, parse_public_key
from pixcell_share.errors import MembershipError
from pixcell_share.wire.refusals import Refusal

_CONTEXT = b"pixcell-share/rotation/v1\n"
"""Keeps these signatures from meaning anything elsewhere."""


@dataclass(frozen=True)
class Rotation:
    """The new key, signed by the old one; and by itself, which shows that the site has it."""

    public_key: str
    """The new key in PEM."""
    by_old: str
    """Signature of the old key, 128 hex digits."""
    by_new: str
    """Signature of the new key, 128 hex digits."""

    @classmethod
    def sign(cls, old: SiteKey, new: SiteKey, hub_key_id: str) -> Rotation:
        """From ``old`` to ``new``, at one hub only."""
        message = _message(hub_key_id, old.key_id, new.key_id)
        return cls(new.public_pem.decode(), old.sign(message).hex(), new.sign(message).hex())

    def check(self, old: PublicKey, hub_key_id: str) -> PublicKey:
        """The new key.

        Raises:
            KeyFileError: it is no Ed25519 public key in PEM.
            MembershipError: a signature does not hold.
        """
        new = parse_public_key(self.public_key.encode(), "the new key")
        message = _message(hub_key_id, old.key_id, new.key_id)
        for key, signature in ((old, self.by_old), (new, self.by_new)):
            if not _holds(key, signature, message):
                raise MembershipError(
                    "the new key is not signed by the old one and by itself",
                    "run `pixcell-site rotate-key` again",
                    Refusal.SIGNATURE,
                )
        return new


def _message(hub_key_id: str, old: str, new: str) -> bytes:
    return _CONTEXT + f"{hub_key_id}\n{old}\n{new}\n".encode()


def _holds(key: PublicKey, signature: str, message: bytes) -> bool:
    try:
        return key.verifies(bytes.fromhex(signature), message)
    except ValueError:
        return False
