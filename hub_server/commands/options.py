"""Options that many commands share, and how they print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pixcell_share import console

Home = Annotated[
    Path | None,
    typer.Option(
        help="The hub's folder. (default: $PIXCELL_HUB_HOME, else ~/.pixcell-hub)",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; it stands in the log.")]
ACTOR = "operator:cli"
"""Who did it, in the log: whoever may read the hub's folder is its operator."""


def show_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table for people; ``empty`` in its place where there is no row."""
    found = [[escape("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not found:
        console.output().print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*row)
    console.output().print(table)


def show_fields(fields: dict[str, object], as_json: bool) -> None:
    """Names and values, one a line; or one JSON object."""
    if as_json:
        console.print_json({**fields, "exit_code": 0})
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        console.output().print(f"{name.replace('_', ' '):{width}}  {escape(str(value))}")
