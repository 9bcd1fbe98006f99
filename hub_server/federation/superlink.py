"""Run a SuperLink as a process of this machine, reachable from nowhere else."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from hub_server.federation.executor import write_programs
from hub_server.federation.link_tls import ensure_certificate
from hub_server.federation.places import Places
from pixcell_share.errors import PixcellError
from pixcell_share.federation.environment import prepare, quiet_environment
from pixcell_share.federation.processes import free_port, started, write_secret
from pixcell_share.files import atomic_write_text

_START_S = 60.0


class SuperLinkError(PixcellError):
    """The SuperLink does not start, or ended."""

    code = "superlink"


@dataclass(frozen=True)
class SuperLink:
    """A SuperLink that runs."""

    address: str
    """Host and port."""
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None


@contextmanager
def simulating(places: Places, variables: dict[str, str]) -> Iterator[SuperLink]:
    """A SuperLink that simulates its nodes, until the block ends.

    Plain HTTP: it lives for a simulation, on the loopback interface.

    Args:
        places: of the hub.
        variables: of the environment, beside those of this process.

    Raises:
        SuperLinkError: it does not start.
    """
    port = free_port()
    words = [
        "flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1",
        "--port", str(port), "--database", str(places.folder / "simulation.db"),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    environment = {**quiet_environment(prepare(places.flower)), **variables}
    with started(words, environment, places.folder / "superlink.log") as process:
        await_healthy(f"http://127.0.0.1:{port}", process)
        yield SuperLink(f"127.0.0.1:{port}", process)


@contextmanager
def deployed(places: Places) -> Iterator[SuperLink]:
    """The SuperLink that real sites reach through the hub's front, until the block ends.

    Its state is a file, so what was under way is known after a restart. Only an executor that
    knows the secret may run server apps: without it any program on this machine could. And the
    executor runs ours alone (`hub_server.federation.executor`), whoever else asks for a run.

    Args:
        places: of the hub.

    Raises:
        SuperLinkError: it does not start.
    """
    ensure_certificate(places.tls)
    write_secret(places.secret, secrets.token_bytes(32))
    port, authority = free_port(), places.tls / "ca.crt"
    environment = quiet_environment(prepare(places.flower))
    environment["PIXCELL_HUB_HOME"] = str(places.home.folder.resolve())
    shared = ["--superexec-auth-secret-file", str(places.secret)]
    link = [
        "flower-superlink", "--host", "127.0.0.1", "--port", str(port),
        "--ssl-ca-certfile", str(authority), "--ssl-certfile", str(places.tls / "server.crt"),
        "--ssl-keyfile", str(places.tls / "server.key"), "--database", str(places.database),
        "--enable-supernode-auth", "--isolation", "process", *shared,
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    executor = [
        "flower-superexec", "--root-certificates", str(authority),
        "--runtime-api-address", f"127.0.0.1:{port}", *shared,
    ]  # fmt: skip
    write_programs(places.programs)
    path = os.pathsep.join((str(places.programs.resolve()), environment["PATH"]))
    with started(link, environment, places.folder / "superlink.log") as process:
        await_healthy(f"https://127.0.0.1:{port}", process, authority)
        words = [*executor, "--parent-pid", str(process.pid)]
        with started(words, {**environment, "PATH": path}, places.folder / "superexec.log"):
            atomic_write_text(places.address, f"127.0.0.1:{port}\n")
            try:
                yield SuperLink(f"127.0.0.1:{port}", process)
            finally:
                places.address.unlink(missing_ok=True)


def await_healthy(
    url: str, process: subprocess.Popen[bytes], authority: Path | None = None
) -> None:
    """Wait until the SuperLink at ``url`` answers.

    Raises:
        SuperLinkError: its process ended, or nothing answers.
    """
    verify = httpx.create_ssl_context(verify=str(authority)) if authority else True
    end_at = time.monotonic() + _START_S
    while time.monotonic() < end_at and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", verify=verify, timeout=1.0, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise SuperLinkError("Flower's SuperLink did not start", "look into federation/superlink.log")
