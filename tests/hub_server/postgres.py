"""A PostgreSQL of the tests' own, in a temporary folder, reached by a socket in that folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

INSTALL = "there is no PostgreSQL here; `apt-get install postgresql` installs it"
_USER = "postgres"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")


class PostgresServer:
    """Its data are gone with `close`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not below pytest's own folder, which the user `postgres` may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="pixcell-postgres-"))
        self._data, self._sockets = self._folder / "data", self._folder / "run"
        self._sockets.mkdir()
        self._identity = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._identity = {"user": _USER, "group": _USER, "extra_groups": []}
            for folder in (self._folder, self._sockets):
                shutil.chown(folder, _USER, _USER)
        options = ("--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8")
        self._call("initdb", "-D", self._data, "-U", _USER, *options)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def find(cls) -> Path | None:
        """The folder of PostgreSQL's programs, the newest of several."""
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        newest = sorted(versions, key=lambda path: float(path.parts[-3]))
        return newest[-1].parent if newest else None

    def url(self, database: str = "postgres") -> str:
        """Of one of its databases, for `hub_server.registry.Registry`."""
        return f"postgresql://{_USER}@/{database}?host={self._sockets}"

    def start(self) -> None:
        """Returns when it answers."""
        settings = [word for each in _FAST for word in ("-c", each)]
        command = [self._programs / "postgres", "-D", self._data, "-k", self._sockets, *settings]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, **self._identity
            )
        for _ in range(600):
            ready = self._call("pg_isready", "-q", "-h", self._sockets, check=False)
            if ready.returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """As an operator does: connections are cut at once ("fast")."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(
        self, program: str, *words: str | Path, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        command = [self._programs / program, *words]
        return subprocess.run(
            command, cwd=self._folder, capture_output=True, check=check, **self._identity
        )
