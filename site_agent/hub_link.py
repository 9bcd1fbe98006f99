"""Which hub a site is joined to, and how it knows that it talks to it.

Kept as ``hub.json`` in the site's home. The hub's key decides: it signs the certificate that the
hub shows (`pixcell_share.wire.HubStatement`), so a renewed certificate is taken without asking and
another one never. A hub behind a proxy with a certificate of an authority says so, signed too.
"""

from __future__ import annotations

import json
import secrets
import ssl
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from pixcell_share.errors import HubTrustError, HubUnreachableError, SettingsError
from pixcell_share.files import atomic_write_text
from pixcell_share.wire import HubStatement, certificate_sha256
from pixcell_share.wire.fingerprints import same_fingerprint
from site_agent.home import SiteHome

_FILE = "hub.json"
_MEETING_S = 30.0


@dataclass(frozen=True)
class HubLink:
    """A hub as a site knows it."""

    url: str
    """Where it answers, such as ``https://hub.example.org:8443``."""
    hub: str
    """Its name."""
    hub_key_id: str
    """The fingerprint of its key."""
    certificate: str
    """The certificate in PEM that its key vouches for; empty where an authority does."""

    def save(self, home: SiteHome) -> None:
        """Keep it in the site's home."""
        atomic_write_text(home.folder / _FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, home: SiteHome) -> HubLink:
        """The hub that the site joined.

        Raises:
            SettingsError: it joined none, or the file was changed.
        """
        path = home.folder / _FILE
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise SettingsError(
                "this site has not joined a hub",
                "run `pixcell-site join URL --code CODE --fingerprint FINGERPRINT`",
            ) from error
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{path} cannot be read", "join the hub again") from error

    def tls(self) -> ssl.SSLContext:
        """What a connection has to show: this certificate, or one of an authority."""
        if not self.certificate:
            return httpx.create_ssl_context()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate itself is known, whatever the address
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=self.certificate)
        return context


def meet(url: str, fingerprint: str) -> HubLink:
    """Find out who answers at ``url``; nothing about the site is said.

    Args:
        url: of the hub, https only.
        fingerprint: of the hub's key, as its operator gave it.

    Raises:
        SettingsError: ``url`` is no https address.
        HubTrustError: another key answers, or something stands between.
        HubUnreachableError: nothing answers.
    """
    base = _checked(url)
    document, nonce, shown = _ask(base, _unchecked())
    statement, key = HubStatement.check(document, nonce=nonce)
    if not same_fingerprint(fingerprint, key.key_id):
        raise HubTrustError(
            "the hub's key has another fingerprint than the one given",
            "compare it with the hub's operator by telephone; do not go on if it differs",
        )
    certificate = ssl.DER_cert_to_PEM_cert(shown)
    if not statement.certificate_sha256:
        _check_authority(base)
        certificate = ""
    elif statement.certificate_sha256 != certificate_sha256(certificate):
        raise HubTrustError(
            "the certificate is not the one that the hub's key vouches for",
            "something stands between this machine and the hub; ask your network's administrator",
        )
    return HubLink(base, statement.name, key.key_id, certificate)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise SettingsError(
            f"{url} is no address of a hub", "give it as https://hub.example.org:8443"
        )
    return f"https://{parts.netloc}"


def _unchecked() -> ssl.SSLContext:
    """For the first question only, whose answer is signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_authority(base: str) -> None:
    try:
        _ask(base, httpx.create_ssl_context())
    except HubUnreachableError as error:
        raise HubTrustError(
            "no authority that this machine trusts vouches for the hub's certificate",
            "ask the hub's operator; a hospital's own authority is given by SSL_CERT_FILE",
        ) from error


def _ask(base: str, context: ssl.SSLContext) -> tuple[Any, str, bytes]:
    """The hub's statement, the number that it has to hold, and the certificate shown (DER)."""
    nonce = secrets.token_urlsafe(16)
    try:
        with (
            httpx.Client(verify=context, timeout=_MEETING_S) as client,
            client.stream("GET", f"{base}/api/v1/hub", params={"nonce": nonce}) as response,
        ):
            tls = response.extensions["network_stream"].get_extra_info("ssl_object")
            shown = tls.getpeercert(True)  # DER
            response.read()
            return response.json(), nonce, shown
    except (httpx.HTTPError, OSError) as error:
        raise HubUnreachableError(
            f"the hub does not answer: {type(error).__name__}", "check the address and the network"
        ) from error
    except ValueError as error:
        raise HubTrustError(
            "the address does not answer as a hub does", "check the URL with the hub's operator"
        ) from error
