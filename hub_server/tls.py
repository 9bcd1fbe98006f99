"""The hub's own TLS certificate, for a hub that has none from an authority.

Sites pin it by the hub's key (`pixcell_share.wire.HubStatement`); browsers warn once. A hub behind
a reverse proxy, or one that people use from outside, wants a certificate from an authority.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_path, atomic_write_bytes

_LIFETIME = timedelta(days=397)
"""The longest that browsers took of any certificate when this was written."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


def write_certificate(certificate: Path, key: Path, url: str) -> None:
    """Make a P-256 key (mode 0600) and a certificate for ``url`` and this machine itself.

    Raises:
        StorageError: the folder cannot be written.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with atomic_path(key) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    signed = _certificate(private, urlsplit(url).hostname or "localhost")
    atomic_write_bytes(certificate, signed.public_bytes(serialization.Encoding.PEM))


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the certificate in DER, 64 hex digits.

    Raises:
        SettingsError: there is no certificate in the file.
    """
    return _read(certificate).fingerprint(hashes.SHA256()).hex()


def covers(certificate: Path, url: str) -> bool:
    """Whether it was made for the host of ``url``.

    Raises:
        SettingsError: there is no certificate in the file.
    """
    wanted = _general_name(urlsplit(url).hostname or "")
    names = _read(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return wanted in list(names.value)


def ends_at(certificate: Path) -> datetime:
    """When it stops to be valid.

    Raises:
        SettingsError: there is no certificate in the file.
    """
    return _read(certificate).not_valid_after_utc


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} holds no certificate in PEM",
            "delete it and start the hub again, which makes a new one",
        ) from error


def _certificate(private: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    names = [_general_name(each) for each in dict.fromkeys((host, *_LOCAL))]
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of sites may be slow
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(private, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
