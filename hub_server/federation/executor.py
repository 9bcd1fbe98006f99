"""What the hub's executor starts for a server app in place of Flower's own program: ours alone.

Any account of this machine reaches the SuperLink on its loopback port, and Flower asks there for no
account: whoever is on the machine can hand it a run. Its executor would unpack the bundle of that
run and import what it names, as the hub. So the program that the executor finds first takes one
bundle, that of this version, and the other kinds of Flower's tasks are not started at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixcell_share import startup
from pixcell_share.federation.app_bundle import build_app_bundle, bundle_hash

_OURS = "flwr-serverapp"
_OTHERS = ("flwr-agentapp", "flwr-clientapp", "flwr-connector", "flwr-model", "flwr-simulation")
"""The other programs of ``TASK_TYPE_TO_COMMAND`` (flwr 1.42, ``supercore/constant.py``)."""
_SCRIPT = """\
#!/bin/sh
exec "{python}" -m hub_server.federation.executor "$@"
"""
_NONE = """\
#!/bin/sh
exit 1
"""


class ForeignAppError(Exception):
    """A bundle is not the one of this version."""


def only_ours(install: Callable[..., Path]) -> Callable[..., Path]:
    """``install`` for the bundle of this version.

    Args:
        install: Flower's ``install_from_fab``.
    """

    def install_ours(fab_file: Path | bytes, *rest: Any, **more: Any) -> Path:
        content = fab_file if isinstance(fab_file, bytes) else fab_file.read_bytes()
        if bundle_hash(content) != bundle_hash(build_app_bundle()):
            raise ForeignAppError("this is not the app of the hub")
        return install(content, *rest, **more)

    return install_ours


def write_programs(folder: Path) -> None:
    """Put these programs into ``folder``, for the front of the executor's PATH."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    scripts = dict.fromkeys(_OTHERS, _NONE) | {_OURS: _SCRIPT.format(python=sys.executable)}
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)


def main() -> None:
    """Run Flower's own program with the check in it."""
    startup.start()
    from flwr.superlink.cli import flwr_serverapp
    from flwr.superlink.runtime import run_serverapp

    theirs: Any = sys.modules[run_serverapp.__module__]  # Flower has no hook for it
    theirs.install_from_fab = only_ours(theirs.install_from_fab)
    flwr_serverapp()


if __name__ == "__main__":
    main()
