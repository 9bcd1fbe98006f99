"""What a hub asks of every bundle, beyond the limits that its site set for itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hub_server.config import read_config
from hub_server.require_table import wrong_table
from pixcell_share.bundles import Requirement
from pixcell_share.errors import SettingsError


def gather(texts: Sequence[str], policy: Path | None) -> tuple[Requirement, ...]:
    """The requirements of the command line and of the policy file; all of them hold.

    Raises:
        SettingsError: one cannot be read.
    """
    given = tuple(Requirement.parse(text) for text in texts)
    return given if policy is None else (*given, *read_policy(policy))


def read_policy(path: Path) -> tuple[Requirement, ...]:
    """The ``[require]`` table of a ``hub.toml``, whose other tables must be in order too.

    Raises:
        SettingsError: the file cannot be read, is no TOML, an entry of it is unknown or wrong, or
            it asks for nothing.
    """
    if not path.is_file():
        raise SettingsError(f"there is no file {path}", "check the path")
    if not (asked := read_config(path).require):
        raise wrong_table(path, "has no table [require]: it would ask for nothing")
    return asked
