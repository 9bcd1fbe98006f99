"""Commands of this project as a person would type them: for simulations and the demo."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixcell_share.errors import PixcellError

_BIN = Path(sys.executable).parent


class CommandFailedError(PixcellError):
    """A command that another one started failed."""

    code = "command_failed"


def program(name: str) -> str:
    """Where a command of this installation lies."""
    return str(_BIN / name)


def said(name: str, *words: object) -> dict[str, Any]:
    """Run a command with ``--json`` and take what it says.

    Raises:
        CommandFailedError: it failed.
    """
    found: dict[str, Any] = json.loads(called(name, *words, "--json").splitlines()[-1])
    return found


def called(name: str, *words: object) -> str:
    """Run a command; what it printed.

    Raises:
        CommandFailedError: it failed.
    """
    typed = [program(name), *map(str, words)]
    done = subprocess.run(typed, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CommandFailedError(f"{name} {words[0]} failed", "see what it wrote above")
    return done.stdout


@contextmanager
def served(hub: Path, *, federation: bool = False) -> Iterator[str]:
    """The hub at an address of this machine, until the block ends.

    Args:
        hub: its home.
        federation: whether it keeps a SuperLink.

    Raises:
        CommandFailedError: it does not start.
    """
    words = ["serve", "--host", "127.0.0.1", "--port", "0", "--home", str(hub)]
    more = ["--federation"] if federation else []
    log = (hub / "serve.log").open("a")
    server = subprocess.Popen(
        [program("pixcell-hub"), *words, *more], stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert server.stdout is not None
        found = re.search(r"https://\S+", server.stdout.readline())
        if found is None:
            raise CommandFailedError(f"the hub did not start: {server.wait()}", "see above")
        yield found[0]
    finally:
        server.terminate()
        server.wait()
        log.close()
