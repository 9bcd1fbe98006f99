"""Which node belongs to which site: a site gives its node's key, signed with its own.

Flower's node key only lets a connection in; what a site answers is signed with the site's key.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from hub_server.federation.control import Control
from hub_server.federation.places import Places
from hub_server.registry import Registry, SiteState
from hub_server.registry.sites import list_sites
from pixcell_share.errors import HubError
from pixcell_share.files import atomic_write_text
from pixcell_share.wire import Refusal

_log = logging.getLogger(__name__)
_MAX_BYTES = 1000


@dataclass(frozen=True)
class NodeBook:
    """The node keys that sites gave, by the name of the site, in OpenSSH's form."""

    places: Places

    def keys(self) -> dict[str, str]:
        """All of them."""
        return self._read().get("keys", {})

    def note(self, site: str, public_key: str) -> None:
        """Note the key of a site's node; it takes the place of an earlier one.

        Raises:
            HubError: it is no key that Flower takes, or another site's.
        """
        pem_of(public_key)
        book = self._read()
        keys = book.get("keys", {})
        others = {key for name, key in keys.items() if name != site}
        if public_key in {*others, *book.get("spent", {})}:
            raise HubError(
                "this node key cannot be used any more",
                "make a new one: delete federation/node.key",
                Refusal.CONFLICT,
            )
        if keys.get(site) != public_key:
            self._write({**book, "keys": {**keys, site: public_key}})

    def spend(self, public_key: str) -> None:
        """The SuperLink takes this key no more: once it was out, it stays out."""
        book = self._read()
        left = {site: key for site, key in book.get("keys", {}).items() if key != public_key}
        self._write({"keys": left, "spent": {**book.get("spent", {}), public_key: ""}})

    def wanted(self, registry: Registry) -> dict[str, str]:
        """The keys of active sites only."""
        with registry.reading() as session:
            active = {s.name for s in list_sites(session) if s.status is SiteState.ACTIVE}
        return {site: key for site, key in self.keys().items() if site in active}

    def _read(self) -> dict[str, dict[str, str]]:
        if not self.places.nodes.exists():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self.places.nodes.read_text())
        return found

    def _write(self, book: dict[str, dict[str, str]]) -> None:
        atomic_write_text(self.places.nodes, json.dumps(book) + "\n")


def bring_in_line(control: Control, book: NodeBook, wanted: Mapping[str, str]) -> None:
    """Register nodes that are missing in the SuperLink, and unregister those of nobody.

    Args:
        control: the SuperLink's.
        book: of the hub.
        wanted: node keys by site.
    """
    known = control.nodes()
    keys = {pem_of(key): key for key in wanted.values()}
    for pem, node in known.items():
        if pem not in keys:
            control.unregister(node)
    for site, key in wanted.items():
        if pem_of(key) not in known and not control.register(pem_of(key), site):
            _log.warning("the SuperLink does not take the node key of %s; it needs a new one", site)
            book.spend(key)


def pem_of(public_key: str) -> bytes:
    """A node key as Flower keeps it.

    Raises:
        HubError: it is no P-256 or P-384 key in OpenSSH's form.
    """
    try:
        if len(public_key) > _MAX_BYTES:
            raise ValueError("too long")
        key = load_ssh_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_node_key() from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _no_node_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _no_node_key() -> HubError:
    return HubError(
        "this is no node key", "use `pixcell-site agent` of this version", Refusal.MALFORMED
    )
