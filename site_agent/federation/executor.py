"""What Flower starts for each message in place of its ``flwr-clientapp``: checks, then that.

A SuperNode runs the first ``flwr-clientapp`` on its PATH, and the agent puts this one first. Here
the bundle that came from the hub is compared with the hashes that the operator approved, and looked
into, before a byte of it is unpacked, and long before anything that it names is imported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixcell_share import startup
from pixcell_share.errors import FormatError
from pixcell_share.federation.app_bundle import bundle_hash, refuse_code
from site_agent.federation.approvals import Approvals
from site_agent.federation.logs import log_to
from site_agent.federation.places import Places
from site_agent.home import SiteHome

_log = logging.getLogger(__name__)
_SCRIPT = """\
#!/bin/sh
exec "{python}" -m site_agent.federation.executor "$@"
"""


UNAPPROVED = "unapproved"
"""What the hub is told of a bundle that is not started."""


class UnapprovedError(Exception):
    """The bundle is not one that the operator approved."""


def checked(approvals: Approvals, install: Callable[..., Path]) -> Callable[..., Path]:
    """``install`` for approved bundles without code.

    Args:
        approvals: of the site.
        install: Flower's ``install_from_fab``.
    """

    def install_approved(fab_file: Path | bytes, *rest: Any, **more: Any) -> Path:
        content = fab_file if isinstance(fab_file, bytes) else fab_file.read_bytes()
        if bundle_hash(content) not in approvals.hashes():
            _log.error("an app bundle was not started: %s is not approved", bundle_hash(content))
            raise UnapprovedError
        try:
            refuse_code(content)
        except FormatError as error:
            raise UnapprovedError from error
        return install(content, *rest, **more)

    return install_approved


def wordless(error: Callable[..., Any]) -> Callable[..., Any]:
    """Flower's ``Error`` for the hub, without the words of the exception that it is made of.

    Args:
        error: its constructor.
    """

    def make(code: int, reason: str | None = None) -> Any:
        unapproved = reason is not None and UnapprovedError.__name__ in reason
        return error(code=code, reason=UNAPPROVED if unapproved else "")

    return make


def write_program(places: Places) -> None:
    """Put this program into the folder that is first on the node's PATH."""
    places.programs.mkdir(parents=True, exist_ok=True, mode=0o700)
    program = places.programs / "flwr-clientapp"
    program.write_text(_SCRIPT.format(python=sys.executable))
    program.chmod(0o700)


def main() -> None:
    """Run Flower's own program with the check in it."""
    startup.start()
    places = Places(SiteHome.locate())
    log_to(places.log)
    from flwr.supernode.cli import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    theirs: Any = run_clientapp  # Flower has no hook for either
    theirs.install_from_fab = checked(Approvals(places.approved), theirs.install_from_fab)
    theirs.Error = wordless(theirs.Error)
    flwr_clientapp()


if __name__ == "__main__":
    main()
