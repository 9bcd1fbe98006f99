"""A SuperNode and its executor as processes of this machine."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.federation.environment import prepare, quiet_environment
from pixcell_share.federation.processes import free_port, started, write_secret
from site_agent.federation.introducing import Introduction
from site_agent.federation.places import Places

_TAIL = 4096


@dataclass(frozen=True)
class SuperNode:
    """One that was started."""

    process: subprocess.Popen[bytes]
    executor: subprocess.Popen[bytes]
    log: Path
    began: int
    """Bytes of the log before this one."""

    @property
    def alive(self) -> bool:
        """Whether both processes run."""
        return self.process.poll() is None and self.executor.poll() is None

    @property
    def code(self) -> int:
        """What it ended with."""
        return self.process.poll() or self.executor.poll() or 0

    def news(self) -> tuple[str, str]:
        """State and detail for `AgentState`, from what it logged."""
        with self.log.open("rb") as file:
            file.seek(max(self.began, self.log.stat().st_size - _TAIL))
            tail = file.read().decode(errors="replace")
        lost = tail.rfind("Connection attempt failed")
        if lost >= 0 and lost > tail.rfind("Connection successful"):
            return "waiting", "the hub's SuperLink does not answer"
        if "SuperNode ID" in tail or self.log.stat().st_size - self.began > _TAIL:
            return "connected", ""
        return "connecting", ""


@contextmanager
def running(places: Places, known: Introduction) -> Iterator[SuperNode]:
    """A SuperNode that connects to the hub, until the block ends.

    Its executor needs a secret: without it any program on this machine could take a hub's message
    in its place.

    Args:
        places: of the site.
        known: where the hub is, and what it shows.
    """
    secret = places.folder / "superexec.secret"
    write_secret(secret, secrets.token_bytes(32))
    port = free_port()
    trust = ["--root-certificates", str(places.hub_certificate)] if known.certificate else []
    node = [
        "flower-supernode", "--superlink", known.address, *trust,
        "--auth-supernode-private-key", str(places.node_key), "--port", str(port),
        "--isolation", "process", "--superexec-auth-secret-file", str(secret),
    ]  # fmt: skip
    executor = [
        "flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{port}",
        "--superexec-auth-secret-file", str(secret),
    ]  # fmt: skip
    environment = quiet_environment(prepare(places.flower))
    environment["PIXCELL_HOME"] = str(places.home.folder.resolve())
    environment["PATH"] = os.pathsep.join((str(places.programs.resolve()), environment["PATH"]))
    log = places.folder / "supernode.log"
    began = log.stat().st_size if log.exists() else 0
    with started(node, environment, log) as process:
        words = [*executor, "--parent-pid", str(process.pid)]
        with started(words, environment, places.folder / "superexec.log") as second:
            yield SuperNode(process, second, log, began)
