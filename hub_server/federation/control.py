"""Speak to a SuperLink: start a run, ask how it goes, name the nodes.

``flwr run`` exits 0 when a run fails, so its state is asked for. This is what Flower's own command
line calls; it is used directly because a poll by command costs three seconds of a processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from pixcell_share.errors import PixcellError
from pixcell_share.federation.app_bundle import build_app_bundle, bundle_hash

_LOOK_EVERY_S = 2.0


class RunFailedError(PixcellError):
    """A run of Flower came to nothing."""

    code = "run_failed"


@dataclass(frozen=True)
class RunState:
    """How a run goes."""

    status: str
    """``pending``, ``starting``, ``running`` or ``finished``."""
    how: str
    """Of a finished one: ``completed``, ``failed`` or ``stopped``."""

    @property
    def over(self) -> bool:
        """Whether it is finished, one way or another."""
        return self.status == "finished"


class Control:
    """The Control API of a SuperLink on this machine.

    Args:
        address: host and port.
        authority: certificate of the authority that signed the SuperLink's; None: plain HTTP.
    """

    def __init__(self, address: str, authority: Path | None = None) -> None:
        from flwr.supercore.control.control_http_client import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=authority is None,
            root_certificates=authority.read_bytes() if authority else None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
        )

    def start(self, round_number: str, *, nodes: int | None = None) -> int:
        """Start a run of our app for a round; returns its number.

        Args:
            round_number: of the round.
            nodes: how many to simulate; None where nodes are real.

        Raises:
            RunFailedError: the SuperLink does not take it.
        """
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.proto.fab_pb2 import Fab
        from flwr.proto.federation_config_pb2 import SimulationConfig
        from flwr.proto.transport_pb2 import Scalar

        content = build_app_bundle()
        request = StartRunRequest(
            fab=Fab(hash_str=bundle_hash(content), content=content),
            override_config={"round": Scalar(string=round_number)},
        )
        if nodes is not None:
            simulated = SimulationConfig(
                num_supernodes=nodes, client_resources_num_cpus=1, init_args_num_cpus=min(nodes, 2)
            )
            request.override_federation_config.CopyFrom(simulated)
        answer = self._client.StartRun(request)
        if not answer.run_id:
            raise RunFailedError("the SuperLink did not take the run", "look into its log")
        return int(answer.run_id)

    def state(self, run: int) -> RunState:
        """How a run goes."""
        from flwr.proto.control_pb2 import ListRunsRequest

        found = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        return RunState(found.status, found.sub_status)

    def await_end(self, run: int, alive: Callable[[], bool] = lambda: True) -> RunState:
        """Look until a run is over, or its SuperLink is.

        Raises:
            RunFailedError: it did not complete.
        """
        while not (state := self.state(run)).over:
            if not alive():
                raise RunFailedError("the SuperLink ended during the run", "look into its log")
            time.sleep(_LOOK_EVERY_S)
        if state.how != "completed":
            raise RunFailedError(f"the run {state.how or 'ended'}", "look into superlink.log")
        return state

    def nodes(self) -> dict[bytes, int]:
        """Numbers of the registered nodes by their public key in PEM."""
        from flwr.proto.control_pb2 import ListNodesRequest

        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.public_key: node.node_id for node in found if node.status != "unregistered"}

    def register(self, public_key: bytes, name: str) -> bool:
        """Let a node in; False for a key that was known before.

        Args:
            public_key: in PEM.
            name: of the site.
        """
        from flwr.proto.control_pb2 import RegisterNodeRequest

        try:
            self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name))
        except httpx.HTTPStatusError as error:
            if error.response.is_server_error:
                raise
            return False
        return True

    def unregister(self, node: int) -> None:
        """Let a node in no more; a key that was out once stays out."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def stop(self, run: int) -> None:
        """Stop a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """End the connection."""
        self._client.close()
