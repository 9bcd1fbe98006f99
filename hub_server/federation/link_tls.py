"""An authority and a certificate for the SuperLink, known to this machine alone.

Flower authenticates nodes only over TLS, so the way from the hub's front to its SuperLink is
encrypted too, though it does not leave the loopback interface.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pixcell_share.federation.processes import write_secret
from pixcell_share.files import atomic_write_bytes

_LIFETIME = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=30)


def ensure_certificate(folder: Path) -> None:
    """Make ``ca.crt``, ``server.crt`` and ``server.key`` in ``folder``, unless they still hold.

    The authority's key is thrown away: it signs once.
    """
    server = folder / "server.crt"
    if server.exists():
        ends = x509.load_pem_x509_certificate(server.read_bytes()).not_valid_after_utc
        if ends - datetime.now(UTC) > _RENEW_BEFORE:
            return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pixcell-hub SuperLink")])
    issued = _builder(name, name, authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    authority = issued.sign(authority_key, hashes.SHA256())
    local = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        _builder(local, name, key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(folder / "server.key", pem)
    atomic_write_bytes(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    atomic_write_bytes(server, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )
