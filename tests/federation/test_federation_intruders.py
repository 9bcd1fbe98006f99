"""Whoever should not, on each way in: the hub's front, the SuperLink's port, its executor."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient

from hub_server.acts import Acts
from hub_server.federation.control import Control, RunFailedError
from hub_server.federation.executor import ForeignAppError, only_ours
from pixcell_share.federation.app_bundle import build_app_bundle, bundle_hash, source_files
from tests.federation.served_federation import ServedFederation, served_federation, until

REFUSED = (401, 403, 412)
"""By a signature that does not hold, by the hub's front, and by Flower for unknown or busy keys."""
EVIL = """\
from pathlib import Path
from flwr.serverapp import ServerApp
Path({marker!r}).touch()
app = ServerApp()
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFederation]:
    with served_federation(tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "control/start-run", "control/list-runs", "control/stop-run", "control/register-node",
        "control/list-nodes", "runtime/acquire-task", "runtime/push-messages",
        "fleet/register-node", "fleet/unregister-node", "fleet/%2e%2e%2fcontrol%2flist-runs",
        "fleet/../control/list-runs", "fleet//control/list-runs",
    ],
)  # fmt: skip
def test_the_front_passes_on_nothing_but_what_nodes_need(hub: ServedFederation, path: str) -> None:
    key = base64.b64encode(public_key_to_bytes(hub.member.public_key())).decode()
    fields = {"flwr-public-key": key, "content-type": "application/x-protobuf"}
    answer = httpx.post(f"{hub.front}/v1/{path}", headers=fields, verify=False)
    assert answer.status_code in (403, 404, 405), answer.text


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True], ids=["front", "loopback"])
def test_only_a_member_with_its_own_key_comes_in(hub: ServedFederation, inside: bool) -> None:
    stranger, member = ec.generate_private_key(ec.SECP384R1()), hub.member
    assert hub.activate(stranger, stranger.public_key(), inside=inside) in REFUSED
    assert hub.activate(stranger, member.public_key(), inside=inside) in REFUSED
    with hub.control() as control:
        assert len(control.nodes()) == 1


@pytest.mark.slow
def test_a_copied_key_does_not_put_out_the_node_that_is_online(hub: ServedFederation) -> None:
    assert hub.activate(hub.member, hub.member.public_key()) == 200
    assert hub.activate(hub.member, hub.member.public_key()) in REFUSED


@pytest.mark.slow
def test_a_run_that_brings_code_is_not_started_at_the_hub(
    hub: ServedFederation, tmp_path: Path
) -> None:
    """Flower asks for no account on its port: whoever is on the machine can hand it a run."""
    marker = tmp_path / "the hub ran this"
    declared = source_files()["pyproject.toml"].decode()
    brought = {
        **source_files(),
        "pyproject.toml": declared.replace("hub_server.federation.server_app", "evil")
        .replace('["LICENSE"]', '["LICENSE", "evil.py"]')
        .encode(),
        "evil.py": EVIL.format(marker=str(marker)).encode(),
    }
    content = build_fab_from_files(brought)[0]
    with hub.control() as control:
        run = _start(control, content)
        with pytest.raises(RunFailedError):
            control.await_end(run)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("secret", [None, b"guessed"])
def test_an_executor_without_the_secret_gets_no_task(
    hub: ServedFederation, secret: bytes | None
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        _acquire(hub, secret)
    assert refused.value.response.status_code in (401, 403)
    _acquire(hub, hub.places.secret.read_bytes())


@pytest.mark.slow
def test_a_site_that_is_no_member_any_more_is_put_out(hub: ServedFederation) -> None:
    with Acts.opened(hub.hub, "operator:test") as acts:
        acts.revoke("Hospital A", "its key was copied")
    with hub.control() as control:
        until(lambda: not control.nodes())
    assert hub.activate(hub.member, hub.member.public_key(), inside=True) in REFUSED


def test_the_hubs_executor_unpacks_our_bundle_alone(tmp_path: Path) -> None:
    taken: list[bytes] = []

    def install(content: bytes) -> Path:
        taken.append(content)
        return tmp_path

    ours = build_app_bundle()
    assert only_ours(install)(ours) == tmp_path and taken == [ours]
    with pytest.raises(ForeignAppError):
        only_ours(install)(ours + b"\0")
    assert taken == [ours]


def _start(control: Control, content: bytes) -> int:
    """As `Control.start`, with a bundle of one's own."""
    asked = StartRunRequest(fab=Fab(hash_str=bundle_hash(content), content=content))
    return int(control._client.StartRun(asked).run_id)


def _acquire(hub: ServedFederation, secret: bytes | None) -> None:
    """Ask the SuperLink for a server app to run, as an executor does."""
    proofs = [
        SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
        )
        for secret in [secret]
        if secret is not None
    ]
    with RuntimeHttpClient.from_server_address(
        hub.link, False, hub.authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), *proofs],
    ) as client:  # fmt: skip
        client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
