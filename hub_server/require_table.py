"""The table ``[require]`` of ``hub.toml``: what a hub asks of every bundle.

::

    [require]
    "patient_linkage.residual_high" = "<=0.1"
    "limits.patient_linkage.residual" = "<=0.05"
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixcell_share.bundles import Requirement
from pixcell_share.errors import SettingsError


def read_requirements(path: Path, table: Any) -> tuple[Requirement, ...]:
    """The requirements in ``table``, which stands in the file ``path``.

    Raises:
        SettingsError: it is no table, is empty, or an entry is no requirement.
    """
    if not isinstance(table, dict) or not table:
        raise wrong_table(path, "has no table [require]: it would ask for nothing")
    return tuple(Requirement.parse(f"{name}{bound}") for name, bound in _flat(path, "", table))


def wrong_table(path: Path, why: str) -> SettingsError:
    """What is wrong with the table, and how to write it."""
    return SettingsError(
        f"{path.name} {why}", 'write [require] and "patient_linkage.residual_high" = "<=0.1"'
    )


def _flat(path: Path, prefix: str, table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries by dotted name: in TOML a name without quotes opens a table at every dot."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(path, f"{prefix}{name}.", value)
        elif isinstance(value, str):
            yield f"{prefix}{name}", value
        else:
            raise wrong_table(path, f"says {prefix}{name} = {value!r}, which is not a comparison")
