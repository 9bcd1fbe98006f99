"""What keeps a hub from being served is said in plain words."""

from __future__ import annotations

import socket

import pytest

from hub_server.home import HubHome
from hub_server.jobs import JobRunner
from hub_server.serving import serve_hub
from hub_server.web.serve import ServeSettings
from pixcell_share.errors import SettingsError, StateError


def test_a_hub_is_served_once(hub_home: HubHome) -> None:
    with JobRunner(hub_home), pytest.raises(StateError, match="served already"):
        serve_hub(hub_home, ServeSettings(host="127.0.0.1", port=0))


def test_a_port_that_another_program_has(hub_home: HubHome) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}") as told:
            serve_hub(hub_home, ServeSettings(host="127.0.0.1", port=port))
    assert "--port" in told.value.remedy
