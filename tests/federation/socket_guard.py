"""A witness of every address that our programs, and all their children in Python, turn to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HOOK = """\
import json, os, sys

_told = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_ADDRESS = {{"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0,
            "socket.gethostbyname": 0, "socket.sendmsg": 1}}

def _witness(event, args):
    if event in _ADDRESS:
        to = args[_ADDRESS[event]]
        if isinstance(to, tuple):
            os.write(_told, (json.dumps([str(to[0]), to[1]]) + "\\n").encode())
        elif event.startswith("socket.get") and to is not None:
            name = to.decode() if isinstance(to, bytes) else to
            os.write(_told, (json.dumps([name, None]) + "\\n").encode())

sys.addaudithook(_witness)
"""


class SocketGuard:
    """Set up in the environment, for children that are started from then on.

    Python itself tells of each address before a socket of its turns to it (audit events, PEP 578).

    Args:
        folder: empty; holds the hook and what it saw.
        monkeypatch: sets the environment.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "seen.jsonl"
        (folder / "sitecustomize.py").write_text(_HOOK.format(log=str(self._log)))
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def hosts(self) -> set[str]:
        """Every host by name or number."""
        import json

        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return {json.loads(line)[0] for line in lines}
