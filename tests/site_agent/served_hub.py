"""A real hub over TLS on loopback: in a thread of the test, or in a process that can be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.web.app import create_app, open_hub
from hub_server.web.background import Background
from hub_server.web.serve import Server, ServeSettings, server_config
from pixcell_share.progress import LineView
from site_agent.home import SiteHome
from site_agent.joining import JoinSettings, join

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from pathlib import Path
from hub_server.home import HubHome
from hub_server.web.serve import ServeSettings, serve
settings = ServeSettings(host="127.0.0.1", port=int(sys.argv[2]), patience_s=1)
serve(HubHome(Path(sys.argv[1])), settings, on_ready=lambda port: print(port, flush=True))
"""


@dataclass
class ThreadHub:
    """Served by a thread."""

    home: HubHome
    port: int = 0
    own_certificate: bool = True
    """False: as if the certificate were that of a proxy before the hub."""
    _thread: threading.Thread | None = None
    _server: Server = field(init=False)

    def start(self) -> ThreadHub:
        """Listen; on the same port again after `stop`."""
        ready = threading.Event()

        def on_ready(port: int) -> None:
            self.port = port
            ready.set()

        def run() -> None:
            hub = open_hub(self.home, own_certificate=self.own_certificate)
            settings = ServeSettings(host="127.0.0.1", port=self.port, patience_s=1)
            self._server = Server(server_config(hub, create_app(hub), settings), on_ready)
            with Background(hub):
                self._server.run()
            hub.registry.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(60)
        return self

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.should_exit = True
        assert self._thread is not None
        self._thread.join(30)


@dataclass
class ProcessHub:
    """Served by a process."""

    home: HubHome
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> ProcessHub:
        """Listen; on the same port again after `kill`."""
        words = [sys.executable, "-c", _PROGRAM, str(self.home.folder), str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def admit(home: HubHome, site: SiteHome, port: int) -> None:
    """Make ``site`` a member of the hub in ``home``, which answers on ``port``."""
    name, hub_key = site.config().site, home.load_key().key_id
    with Acts.opened(home, "operator") as acts:
        code = acts.invite(name).code
        settings = JoinSettings(code=code, wait=False, give_up_after_s=20)
        joined = join(f"https://127.0.0.1:{port}", hub_key, site, LineView(), settings)
        assert joined.status == "pending"
        acts.admit(name, site.load_key().key_id)
