"""The key by which a SuperLink knows this site's node. It opens a connection and signs nothing.

Flower takes NIST curves in OpenSSH's form only; the site's own key is Ed25519 and stays apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from pixcell_share.errors import KeyFileError
from pixcell_share.files import atomic_path


def ensure_node_key(path: Path) -> str:
    """Make the key (P-384, mode 0600) unless there is one; its public half in OpenSSH's form.

    Raises:
        KeyFileError: what is there is no such key.
        StorageError: the folder cannot be written.
    """
    if not path.exists():
        _write(path, ec.generate_private_key(ec.SECP384R1()))
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except ValueError as error:
        raise _no_key(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_key(path)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _write(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with atomic_path(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)


def _no_key(path: Path) -> KeyFileError:
    return KeyFileError(f"{path.name} is no node key", "delete it: the agent makes a new one")
