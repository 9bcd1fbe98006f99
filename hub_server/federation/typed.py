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


def said(program: str, *words: object) -> dict[str, Any]:
    """Run a command with ``--json`` and take what it says.

    Raises:
        CommandFailedError: it failed.
    """
    found: dict[str, Any] = json.loads(called(program, *words, "--json").splitlines()[-1])
    return found


def called(program: str, *words: object) -> str:
    """Run a command; what it printed.

    Raises:
        CommandFailedError: it failed.
    """
    typed = [str(_BIN / program), *map(str, words)]
    done = subprocess.run(typed, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CommandFailedError(f"{program} {words[0]} failed", "see what it wrote above")
    return done.stdout


@contextmanager
def served(hub: Path) -> Iterator[str]:
    """The hub at an address of this machine, until the block ends.

    Raises:
        CommandFailedError: it does not start.
    """
    words = ["serve", "--host", "127.0.0.1", "--port", "0", "--home", str(hub)]
    server = subprocess.Popen(
        [str(_BIN / "pixcell-hub"), *words], stdout=subprocess.PIPE, text=True
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
