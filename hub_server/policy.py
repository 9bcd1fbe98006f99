"""What a hub asks of every bundle, beyond the limits that its site set for itself.

``hub.toml``::

    [require]
    "patient_linkage.residual_high" = "<=0.1"
    "limits.patient_linkage.residual" = "<=0.05"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    """The ``[require]`` table of a ``hub.toml``.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or an entry is no requirement.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name} cannot be read: {error}", "mend the file") from error
    if unknown := sorted(values.keys() - {"require"}):
        raise _wrong(path, f"has an unknown entry: {unknown[0]}")
    if not isinstance(values.get("require"), dict) or not values["require"]:
        raise _wrong(path, "has no table [require]: it would ask for nothing")
    return tuple(
        Requirement.parse(f"{name}{bound}") for name, bound in _flat(path, "", values["require"])
    )


def _flat(path: Path, prefix: str, table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries by dotted name: in TOML a name without quotes opens a table at every dot."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(path, f"{prefix}{name}.", value)
        elif isinstance(value, str):
            yield f"{prefix}{name}", value
        else:
            raise _wrong(path, f"says {prefix}{name} = {value!r}, which is not a comparison")


def _wrong(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path.name} {why}", 'write [require] and "patient_linkage.residual_high" = "<=0.1"'
    )
