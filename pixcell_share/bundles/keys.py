"""A site's key: it signs bundles, and seeds what must look random to everyone else."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pixcell_share.errors import KeyFileError
from pixcell_share.files import storage_errors

_MAX_KEY_BYTES = 16 * 1024
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DERIVE_INFO = b"pixcell-share/derive/v1/"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key (RFC 8032) that bundles are checked against."""

    _key: Ed25519PublicKey

    @property
    def key_id(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo in DER (RFC 5280), 64 hex digits."""
        der = self._key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(der).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key as a PEM text that may be given to anyone."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is this key's signature of ``message``."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, repr=False)
class SiteKey:
    """A site's Ed25519 private key. It never leaves the site, nor this object."""

    _key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SiteKey({self.key_id[:16]}…)"

    @classmethod
    def create(cls, path: Path) -> SiteKey:
        """Make a new key and write it to ``path`` (PEM, PKCS #8, mode 0600).

        Raises:
            KeyFileError: there is a file at ``path`` already; it is left as it is.
            StorageError: the folder cannot be written.
        """
        key = cls(Ed25519PrivateKey.generate())
        pem = key._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write_private(path, pem)
        return key

    @classmethod
    def load(cls, path: Path) -> SiteKey:
        """Read a key that `create` wrote.

        Raises:
            KeyFileError: it is missing, not an Ed25519 private key, or readable by others.
        """
        data = _read_key_file(path, private=True)
        if b"PUBLIC KEY" in data:
            raise KeyFileError(
                f"{path.name} is a public key, and signing needs the private one",
                "give the file that `pixcell-site init` wrote for the site",
            )
        if b"ENCRYPTED PRIVATE KEY" in data:
            raise KeyFileError(
                f"{path.name} is protected by a passphrase, which is not supported",
                "keep the key unencrypted with mode 0600 on an encrypted disk",
            )
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _not_a_key(path.name, "private") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _wrong_kind(path.name)
        return cls(key)

    @property
    def key_id(self) -> str:
        """The fingerprint of the public half, see `PublicKey.key_id`."""
        return self.public.key_id

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._key.public_key())

    @property
    def public_pem(self) -> bytes:
        """The public half as PEM."""
        return self.public.pem

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of ``message``, 64 bytes, the same every time (RFC 8032)."""
        return self._key.sign(message)

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose: HKDF-SHA256 (RFC 5869) of the private key.

        Two purposes give unrelated bytes, and none tells anything about the key. Used for the
        noise of tiles and for their order in a bundle.
        """
        info = _DERIVE_INFO + purpose.encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(
            self._key.private_bytes_raw()
        )


def load_public_key(path: Path) -> PublicKey:
    """Read an Ed25519 public key in PEM.

    Raises:
        KeyFileError: it is missing, not an Ed25519 public key, or a private key by mistake.
    """
    return parse_public_key(_read_key_file(path, private=False), path.name)


def parse_public_key(pem: bytes, name: str) -> PublicKey:
    """Read an Ed25519 public key from its PEM text.

    Args:
        pem: the text.
        name: of the file or the field, for errors.

    Raises:
        KeyFileError: it is no such key, too long, or a private key by mistake.
    """
    if b"PRIVATE KEY" in pem:
        raise KeyFileError(
            f"{name} is a private key, and only the public one may leave its site",
            "ask the site for its .pub file, and treat this key as exposed: make a new one",
        )
    if len(pem) > _MAX_KEY_BYTES:
        raise _not_a_key(name, "public")
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(name, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_kind(name)
    return PublicKey(key)


def _write_private(path: Path, pem: bytes) -> None:
    """Write beside ``path``, then link: the name appears whole, and never over another file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
            path.hardlink_to(temporary)
        except FileExistsError as error:
            raise KeyFileError(
                f"{path.name} is there already, and a key is never overwritten",
                "use it, or choose another name: bundles signed with it need it to be checked",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def _read_key_file(path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_KEY_BYTES + 1)
    except FileNotFoundError as error:
        raise KeyFileError(
            f"there is no key at {path}", "make one with `pixcell-site init`, or check the path"
        ) from error
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be read as a key: {error.strerror}", "check the path and its owner"
        ) from error
    if private and mode & _OPEN_TO_OTHERS:
        raise KeyFileError(
            f"{path.name} is readable by others (mode {stat.S_IMODE(mode):04o})",
            f"run `chmod 600 {path}`; make a new key if others may have read it",
        )
    if len(data) > _MAX_KEY_BYTES:
        raise _not_a_key(path.name, "private" if private else "public")
    return data


def _not_a_key(name: str, half: str) -> KeyFileError:
    return KeyFileError(
        f"{name} is not a {half} key in PEM",
        "give the .pub file of a site" if half == "public" else "give the site's own key file",
    )


def _wrong_kind(name: str) -> KeyFileError:
    return KeyFileError(
        f"{name} is a key of another kind than Ed25519", "make one with `pixcell-site init`"
    )
