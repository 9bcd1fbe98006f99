"""A served hub with its SuperLink and one member, whose node tests play themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from hub_server.acts import Acts
from hub_server.federation.control import Control
from hub_server.federation.nodes import NodeBook
from hub_server.federation.places import Places
from hub_server.federation.typed import served
from hub_server.home import HubHome
from pixcell_share.bundles import SiteKey
from site_agent.federation.node_key import ensure_node_key

PATIENCE_S = 60.0


@dataclass(frozen=True)
class ServedFederation:
    """What an intruder may know, and what only the hub and its member know."""

    hub: HubHome
    front: str
    """The hub's address, for everybody."""
    member: ec.EllipticCurvePrivateKey
    """The key of the member's node."""

    @property
    def places(self) -> Places:
        return Places(self.hub)

    @property
    def link(self) -> str:
        """The SuperLink's own address, for programs of this machine."""
        return self.places.address.read_text().strip()

    @property
    def authority(self) -> Path:
        return self.places.tls / "ca.crt"

    @contextmanager
    def control(self) -> Iterator[Control]:
        control = Control(self.link, self.authority)
        try:
            yield control
        finally:
            control.close()

    def activate(
        self, private: ec.EllipticCurvePrivateKey, named: ec.EllipticCurvePublicKey, *,
        inside: bool = False,
    ) -> int:  # fmt: skip
        """Be a SuperNode that comes online, as Flower's own does; 200 or how it is refused.

        Args:
            private: what signs.
            named: the public key that the node says is its own.
            inside: go to the SuperLink itself and not to the hub's front.
        """
        where, trusted = (
            (self.link, self.authority)
            if inside
            else (self.front.removeprefix("https://"), self.hub.folder / "tls" / "server.crt")
        )
        asked = ActivateNodeRequest(public_key=public_key_to_bytes(named), heartbeat_interval=30)
        try:
            with FleetHttpClient.from_server_address(
                where, False, trusted.read_bytes(),
                interceptors=[
                    RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                    NodeAuthHttpInterceptor(private, named),
                ],
            ) as client:  # fmt: skip
                client.ActivateNode(asked)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


@contextmanager
def served_federation(folder: Path) -> Iterator[ServedFederation]:
    """A hub with one member, whose node the SuperLink knows."""
    hub = HubHome(folder / "hub")
    hub.initialise("Hub of the tests", "https://localhost:8443")
    site = SiteKey.create(folder / "site.key")
    public = ensure_node_key(folder / "node.key")
    with Acts.opened(hub, "operator:test") as acts:
        acts.join(acts.invite("Hospital A").code, "Hospital A", site.public_pem)
        acts.admit("Hospital A", site.key_id)
    places = Places(hub)
    places.folder.mkdir(exist_ok=True)
    NodeBook(places).note("Hospital A", public)
    with served(hub.folder, federation=True) as front:
        made = ServedFederation(hub, front, node_key(folder / "node.key"))
        with made.control() as control:
            until(lambda: bool(control.nodes()))
        yield made


def node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key of a node."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    end_at = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end_at, "it did not come"
        time.sleep(0.2)
