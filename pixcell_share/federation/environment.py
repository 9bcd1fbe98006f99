"""Flower and Ray as a hospital wants them: silent towards the world, and at home in one folder.

Flower reads these variables when it is imported, and its children inherit them, so they are set
before the first import and in every child (flwr 1.42: ``supercore/telemetry.py``,
``supercore/update_check.py``, ``supercore/constant.py``; Ray: ``ray/_common/usage/usage_lib.py``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_FIXED = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "NO_COLOR": "1",
}
_LOOPBACK = "127.0.0.1"
"""Where Flower's programs of one machine speak to each other. A name, such as localhost, may be
that of a hub."""
_CONFIG = """\
[superlink]
default = "none"

[superlink.none]
address = "127.0.0.1:9"
insecure = true
"""
"""Flower writes a file of its own that names its public hub if there is none."""


def quiet_environment(home: Path) -> dict[str, str]:
    """The variables of this process, with Flower's settled.

    Args:
        home: where Flower keeps its files (``FLWR_HOME``).

    Returns:
        A new mapping, for children.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    own = {"FLWR_HOME": str(home.resolve()), "PATH": path}
    return {**os.environ, **_FIXED, **_direct(), **own}


def spare_loopback() -> None:
    """Let this process reach Flower's programs on this machine where a proxy leads outside."""
    os.environ.update(_direct())


def _direct() -> dict[str, str]:
    """Flower's clients follow ``HTTP_PROXY`` and ``HTTPS_PROXY``, to the loopback interface too."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join(dict.fromkeys((*filter(None, known.split(",")), _LOOPBACK)))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def settle(home: Path) -> None:
    """Settle Flower's variables in this process, before it is imported here.

    Raises:
        RuntimeError: it was imported already, with other settings.
    """
    known = {name: os.environ.get(name) for name in _FIXED}
    if "flwr" in sys.modules and known["FLWR_TELEMETRY_ENABLED"] != "0":
        raise RuntimeError("Flower was imported before its telemetry was turned off")
    os.environ.update({**_FIXED, "FLWR_HOME": str(home.resolve())})


def prepare(home: Path) -> Path:
    """Make Flower's folder, with settings that point to nowhere outside; returns it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = home / "config.toml"
    if not config.exists():
        config.write_text(_CONFIG)
    return home
