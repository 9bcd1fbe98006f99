"""How the pages of the site are rendered: escaped, strict about names, and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pixcell_share.figures.numbers import number, percent, quantity
from pixcell_share.files import atomic_path
from site_agent.report.images import aligned_uri, tile_uri


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template of ``site_agent/templates`` to ``path``, in one step and piece by piece.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    parts: Iterator[str] = _environment().get_template(template).generate(**values)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("site_agent", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(quantity=quantity, percent=percent, number=number)
    environment.filters.update(tile_uri=tile_uri)
    environment.globals.update(aligned_uri=aligned_uri)
    return environment
