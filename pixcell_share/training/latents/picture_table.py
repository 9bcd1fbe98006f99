"""regions.csv: what a person says about each picture of a folder of regions."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents.info import SPLITS, Split

COLUMNS = ("file", "slide", "case", "organ", "source", "split")


@dataclass(frozen=True)
class PictureRow:
    """One row of regions.csv."""

    number: int
    """Line of the file; the header is line 1."""
    file: str
    """Relative to the folder of regions, with forward slashes."""
    slide: str
    case: str
    organ: str
    source: str
    split: Split | None


def read_picture_table(path: Path) -> list[PictureRow]:
    """The rows of a comma-separated UTF-8 table; only the ``file`` column is required.

    Raises:
        SettingsError: the table cannot be read, or a row is wrong (its line is named).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_header(path, reader.fieldnames)
            rows = [_row(path, reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"the table {path.name} cannot be read: {error}",
            "save it as a comma-separated UTF-8 file",
        ) from error
    _check_files(path, rows)
    return rows


def given_split(text: str) -> Split | None:
    """The split that a cell names; None for an empty one.

    Raises:
        ValueError: it names something else.
    """
    for split in SPLITS:
        if text == split:
            return split
    if text:
        raise ValueError(f"the split {text!r} is neither {' nor '.join(SPLITS)}")
    return None


def _check_header(path: Path, names: object) -> None:
    columns = list(names) if isinstance(names, (list, tuple)) else []
    if "file" not in columns:
        raise _error(path, 1, "there is no column named file")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise _error(path, 1, f"unknown column {unknown[0]!r} (they are {', '.join(COLUMNS)})")
    if len(set(columns)) < len(columns):
        raise _error(path, 1, "a column appears twice")


def _row(path: Path, number: int, fields: dict[str | None, str | list[str] | None]) -> PictureRow:
    if None in fields:
        raise _error(path, number, "it has more fields than the header")
    cells = {str(name): str(value or "").strip() for name, value in fields.items()}
    if not cells["file"]:
        raise _error(path, number, "the file column is empty")
    try:
        split = given_split(cells.get("split", ""))
    except ValueError as error:
        raise _error(path, number, str(error)) from error
    return PictureRow(
        number,
        cells["file"].replace("\\", "/").removeprefix("./"),
        cells.get("slide", ""),
        cells.get("case", ""),
        cells.get("organ", ""),
        cells.get("source", ""),
        split,
    )


def _check_files(path: Path, rows: list[PictureRow]) -> None:
    if not rows:
        raise SettingsError(f"{path.name} names no picture", "add a row for each picture")
    first: dict[str, int] = {}
    for row in rows:
        if first.setdefault(row.file, row.number) != row.number:
            raise _error(path, row.number, f"{row.file} is in line {first[row.file]} already")


def _error(path: Path, number: int, problem: str) -> SettingsError:
    return SettingsError(f"{path.name}, line {number}: {problem}", f"correct line {number}")
