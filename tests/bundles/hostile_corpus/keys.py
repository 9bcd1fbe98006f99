"""Keys of the corpus. TEST KEYS: their private halves are published, nobody may trust them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pixcell_share.bundles import SiteKey

SITES = {
    "member": "Uniklinik Köln",
    "other": "Maca",
    "pending": "Pending",
    "retired": "Retired",
    "revoked": "Revoked",
    "expired": "Expired",
}
"""The member of the hub that has each key."""
NAMES = (*SITES, "stranger")
SUFFIX = ".TEST-KEY.pem"


def make_key(name: str) -> SiteKey:
    """The key of a name, the same every time."""
    seed = hashlib.sha256(f"pixcell-share, TEST KEY of the hostile bundles: {name}".encode())
    return SiteKey(Ed25519PrivateKey.from_private_bytes(seed.digest()))


def write_keys(folder: Path) -> None:
    """All keys as PEM."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        pem = make_key(name)._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}{SUFFIX}").write_bytes(pem)


def read_key(folder: Path, name: str) -> SiteKey:
    """A key as published. `SiteKey.load` refuses it, since others can read it, and rightly so."""
    key = load_pem_private_key((folder / f"{name}{SUFFIX}").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return SiteKey(key)
