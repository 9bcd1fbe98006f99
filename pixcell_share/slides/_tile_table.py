"""The table of a tile set: what the user says about each picture."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixcell_share.errors import SettingsError
from pixcell_share.slides._slide_table import table_error

PATIENT_COLUMN, LABEL_COLUMN = "case_id", "label"
"""Columns that a table may have; columns of other names must be there when they are asked for."""

_OPTIONAL = (PATIENT_COLUMN, LABEL_COLUMN)


@dataclass(frozen=True)
class TileRow:
    """One row of the table."""

    number: int
    """Row in the file; the header is row 1."""
    file: str
    """Relative to the folder of tiles, with forward slashes; never outside it."""
    patient: str | None
    """None where the table has no such column: the picture then counts as its own patient."""
    label: str | None


def read_tile_table(
    path: Path, *, patient: str = PATIENT_COLUMN, label: str = LABEL_COLUMN
) -> list[TileRow]:
    """The rows of a comma-separated UTF-8 table; its ``file`` column is required.

    Args:
        path: the table. Columns that nobody asks for are passed over.
        patient: the column that names the patient; only ``case_id`` may be missing.
        label: the column that names the class; only ``label`` may be missing.

    Raises:
        SettingsError: the table cannot be read, a column is missing, or a row is wrong (its number
            is named): no file, a file outside the folder, no patient.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = _columns(path, reader.fieldnames, patient, label)
            rows = [
                _row(path, reader.line_num, cells, (patient, label), columns) for cells in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"the table {path.name} cannot be read: {error}",
            "save it as a comma-separated UTF-8 file",
        ) from error
    if not rows:
        raise SettingsError(f"{path.name} names no picture", "add a row for each picture")
    return rows


def _columns(path: Path, names: object, patient: str, label: str) -> frozenset[str]:
    columns = [str(name).strip() for name in names] if isinstance(names, (list, tuple)) else []
    if len(set(columns)) < len(columns):
        raise table_error(path, 1, "a column appears twice")
    for name in ("file", patient, label):
        if name not in columns and name not in _OPTIONAL:
            raise table_error(
                path, 1, f"there is no column named {name} (there are {', '.join(columns)})"
            )
    return frozenset(columns)


def _row(
    path: Path,
    number: int,
    fields: dict[str | None, str | list[str] | None],
    wanted: tuple[str, str],
    columns: frozenset[str],
) -> TileRow:
    if None in fields:
        raise table_error(path, number, "it has more fields than the header")
    cells = {str(name).strip(): str(value or "").strip() for name, value in fields.items()}
    patient, label = (cells.get(name) or None for name in wanted)
    # Tiles of unnamed patients would each pass for a patient of their own, and the audit for
    # more than it is.
    if patient is None and wanted[0] in columns:
        raise table_error(path, number, f"the {wanted[0]} column is empty")
    return TileRow(number, _inside(path, number, cells["file"]), patient, label)


def _inside(path: Path, number: int, name: str) -> str:
    """The file's name, if it cannot lead out of the folder."""
    if not name:
        raise table_error(path, number, "the file column is empty")
    file = PurePosixPath(name.replace("\\", "/"))
    if file.is_absolute() or ".." in file.parts or ":" in file.parts[0] or "\0" in name:
        raise table_error(path, number, f"{name} does not lie in the folder of tiles")
    return file.as_posix()
