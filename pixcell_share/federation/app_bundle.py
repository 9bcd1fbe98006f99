"""The app bundle (FAB) that Flower carries from the hub to the sites. It holds no code.

It names two components of the installed package, so its bytes depend on the version alone, and a
site can compute the only hash that it has reason to approve.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from pixcell_share import __version__
from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError
from pixcell_share.files import atomic_write_bytes

PUBLISHER, NAME = "pixcell", "pixcell-share"
SERVER_APP = "hub_server.federation.server_app:app"
CLIENT_APP = "site_agent.federation.client_app:app"
FILES = frozenset({"pyproject.toml", "LICENSE", ".info/CONTENT"})
"""All that a bundle of ours holds."""
MAX_BYTES = 64 << 10
_DECLARATION = f"""\
[project]
name = "{NAME}"
version = "{__version__}"
description = "The federation of pixcell-share. No code: components of the installed package."
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.42.0"]

[tool.flwr.app]
publisher = "{PUBLISHER}"
fab-format-version = 1
flwr-version-target = "1.42.0"
fab-include = ["LICENSE"]

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"

[tool.flwr.app.config]
round = ""
"""
_LICENCE = "SPDX-License-Identifier: Apache-2.0\n"


def source_files() -> dict[str, bytes]:
    """What `flwr build` and `flwr run` need in a folder: name and content."""
    return {"pyproject.toml": _DECLARATION.encode(), "LICENSE": _LICENCE.encode()}


def write_source(folder: Path) -> None:
    """Write them, for somebody who types ``flwr run`` themselves.

    Raises:
        StorageError: the folder cannot be written.
    """
    for name, content in source_files().items():
        atomic_write_bytes(folder / name, content)


def build_app_bundle() -> bytes:
    """The bundle of this version, the same bytes every time."""
    from flwr.cli.build import build_fab_from_files

    bundle: bytes = build_fab_from_files(source_files())[0]
    return bundle


def bundle_hash(content: bytes) -> str:
    """SHA-256, 64 hex digits: what a site approves."""
    return hashlib.sha256(content).hexdigest()


def refuse_code(content: bytes) -> None:
    """Look into a bundle without unpacking it.

    Raises:
        FormatError: it is no bundle of ours, or holds more than the two files and their list.
    """
    try:
        if len(content) > MAX_BYTES:
            raise ValueError("too large")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (ValueError, zipfile.BadZipFile) as error:
        raise _not_ours("the app bundle cannot be read") from error
    if len(names) != len(set(names)) or not set(names) <= FILES:
        raise _not_ours("the app bundle brings files of its own, and a site runs none")


def _not_ours(cause: str) -> FormatError:
    return FormatError(cause, "ask the hub's operator what was sent", Fault.FILE_EXTRA)
