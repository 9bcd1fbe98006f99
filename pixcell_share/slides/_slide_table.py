"""slides.csv: what the user says about each slide."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.slides._mpp import MAX_MPP, MIN_MPP, is_plausible

_COLUMNS = ("slide", "mpp", "case_id", "label")


@dataclass(frozen=True)
class TableRow:
    """One row of slides.csv."""

    number: int
    """Row in the file; the header is row 1."""
    slide: str
    """File name, or path relative to the folder of slides, with forward slashes."""
    mpp: float | None
    case_id: str | None
    label: str | None
    more: Mapping[str, str] = field(default_factory=dict)
    """Columns that the caller asked for, by name."""


def read_slide_table(path: Path, more: Sequence[str] = ()) -> list[TableRow]:
    """The rows of a comma-separated UTF-8 table; only the ``slide`` column is required.

    Args:
        path: the table.
        more: columns that it may have besides the usual ones.

    Raises:
        SettingsError: the table cannot be read, or a row is wrong (its number is named).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames, (*_COLUMNS, *more))
            rows = [_parse_row(path, reader.line_num, fields, more) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"the slide table {path.name} cannot be read: {error}",
            "save it as a comma-separated UTF-8 file",
        ) from error
    _check_duplicates(path, rows)
    return rows


def table_error(path: Path, number: int, problem: str) -> SettingsError:
    """The error for a row, by its number in the file."""
    return SettingsError(f"{path.name}, row {number}: {problem}", f"correct row {number}")


def _check_header(path: Path, names: object, known: Sequence[str]) -> None:
    columns = [str(name).strip() for name in names] if isinstance(names, (list, tuple)) else []
    if "slide" not in columns:
        raise table_error(path, 1, "there is no column named slide")
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise table_error(
            path, 1, f"unknown column {unknown[0]!r} (the columns are {', '.join(known)})"
        )
    if len(set(columns)) < len(columns):
        raise table_error(path, 1, "a column appears twice")


def _parse_row(
    path: Path,
    number: int,
    fields: dict[str | None, str | list[str] | None],
    more: Sequence[str],
) -> TableRow:
    if None in fields:
        raise table_error(path, number, "it has more fields than the header")
    cells = {str(name).strip(): str(value or "").strip() for name, value in fields.items()}
    if not cells["slide"]:
        raise table_error(path, number, "the slide column is empty")
    return TableRow(
        number,
        cells["slide"].replace("\\", "/").removeprefix("./"),
        _parse_mpp(path, number, cells.get("mpp", "")),
        cells.get("case_id") or None,
        cells.get("label") or None,
        {name: cells[name] for name in more if cells.get(name)},
    )


def _parse_mpp(path: Path, number: int, text: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        raise table_error(path, number, f"mpp {text!r} is no number") from None
    if not is_plausible(mpp):
        raise table_error(path, number, f"mpp {text} is not between {MIN_MPP} and {MAX_MPP} µm/px")
    return mpp


def _check_duplicates(path: Path, rows: list[TableRow]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        if row.slide in first:
            raise table_error(
                path, row.number, f"{row.slide} was already named in row {first[row.slide]}"
            )
        first[row.slide] = row.number
