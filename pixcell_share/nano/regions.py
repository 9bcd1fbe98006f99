"""Lay out nano's data for ``pixcell-train latents``: tables and pictures, with nano's own split."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pixcell_share.files import atomic_path, atomic_write_text
from pixcell_share.nano.tiles import TileSet

FIELD_PX = 512
"""Side of the regions that are cut from breast fields, at 0.5 µm/px."""
_CROPS = 3  # across a field of 680 px: the left, middle and right square
_COLUMNS = ("file", "slide", "case", "organ", "source", "split")
_SOURCES = {"lung": "LC25000", "breast": "BreCaHAD"}


def write_regions(tiles: TileSet, folder: Path) -> None:
    """Write the tables and pictures that stores are made of.

    - ``lung.csv``: every file of the manifest, its near-duplicate group in place of slide and case;
      the pictures stay where they are.
    - ``breast/*.png`` and ``breast.csv``: squares of the halved breast fields.

    Args:
        tiles: the prepared data.
        folder: where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lung = [
        _row("lung", name, group, held=bool(held))
        for name, group, held in zip(tiles.names, tiles.groups, tiles.holdout, strict=True)
    ]
    _write_table(folder / "lung.csv", lung)
    breast = [row for number in range(len(tiles.fields)) for row in _cut(tiles, number, folder)]
    _write_table(folder / "breast.csv", breast)


def _cut(tiles: TileSet, number: int, folder: Path) -> list[Sequence[str]]:
    field, held = tiles.fields[number], bool(tiles.field_holdout[number])
    (folder / "breast").mkdir(exist_ok=True)
    rows = []
    for crop in range(_CROPS):
        left = crop * (field.shape[1] - FIELD_PX) // (_CROPS - 1)
        name = f"field{number:02d}_{crop}.png"
        with atomic_path(folder / "breast" / name) as temporary:
            picture = Image.fromarray(field[:FIELD_PX, left : left + FIELD_PX])
            picture.save(temporary, format="PNG")
        rows.append(_row("breast", name, f"field{number:02d}", held=held))
    return rows


def _row(organ: str, file: str, group: str, *, held: bool) -> Sequence[str]:
    return (file, str(group), str(group), organ, _SOURCES[organ], "holdout" if held else "train")


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    atomic_write_text(path, text.getvalue())
