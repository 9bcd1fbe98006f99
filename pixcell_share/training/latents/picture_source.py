"""Regions that are pictures already: png, jpg or tiff files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from pixcell_share.errors import SettingsError, SlideUnreadableError
from pixcell_share.training.latents.entries import Corners, Entry, Picture, Survey
from pixcell_share.training.latents.picture_table import PictureRow, read_picture_table

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_UNREADABLE = (
    OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip


class PictureSource:
    """The pictures of a folder, sub-folders included, or those that a table names.

    Without a table a picture belongs to the slide that its sub-folder is named after, as in
    ``<slide>/<x>_<y>.jpeg``; one that lies in the folder itself is its own slide.

    Args:
        folder: of the pictures.
        table: a regions.csv; pictures that it does not name are not used.
        region_px: side of a region.
        mpp: resolution of the pictures, as far as it is known.
        resize: take square pictures of another size too, and resize them.

    Raises:
        SettingsError: there is no picture, or the table is wrong.
    """

    unit = "pictures"

    def __init__(
        self,
        folder: Path,
        table: Path | None,
        *,
        region_px: int,
        mpp: float | None = None,
        resize: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder}", "give the folder of the regions")
        self.mpp = mpp
        self._px, self._resize = region_px, resize
        self.entries = _listed(folder, table) if table else _found(folder)

    def survey(self, entry: Entry) -> Survey:
        """Look at the size of a picture.

        Raises:
            SlideUnreadableError: it is no picture.
            SettingsError: it is not square, or has another size and ``resize`` is off.
        """
        try:
            with Image.open(entry.path) as image:
                width, height = image.size
        except _UNREADABLE as error:
            raise _unreadable(entry, error) from error
        if width != height:
            raise SettingsError(
                f"{entry.name} is {width} x {height} px, and a region is square",
                "cut the pictures into squares first",
            )
        if width != self._px and not self._resize:
            raise SettingsError(
                f"{entry.name} is {width} x {height} px, not {self._px} x {self._px}",
                f"add --resize to resize the pictures, or give --region-px {width} if that is the "
                "size of a stage",
            )
        return Survey(np.zeros((1, 2), np.int64))

    def read(self, entry: Entry, corners: Corners) -> Iterator[Picture]:
        """Decode a picture.

        Raises:
            SlideUnreadableError: it is damaged.
        """
        for _ in corners:
            try:
                with Image.open(entry.path) as image:
                    picture = image.convert("RGB")
            except _UNREADABLE as error:
                raise _unreadable(entry, error) from error
            if picture.size != (self._px, self._px):
                picture = picture.resize((self._px, self._px), Image.Resampling.BICUBIC)
            yield np.asarray(picture)


def _unreadable(entry: Entry, error: Exception) -> SlideUnreadableError:
    return SlideUnreadableError(
        f"{entry.name} cannot be read as a picture: {error}", "get it again, or take it out"
    )


def _found(folder: Path) -> tuple[Entry, ...]:
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(parent) / name for name in sorted(names) if not name.startswith("."))
        files += [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not files:
        raise SettingsError(f"no picture in {folder}", f"they end in {' '.join(sorted(SUFFIXES))}")
    return tuple(_unlisted(folder, path) for path in files)


def _unlisted(folder: Path, path: Path) -> Entry:
    file = path.relative_to(folder)
    inside = len(file.parts) > 1
    slide = file.parent.as_posix() if inside else file.stem
    return Entry(file.as_posix(), path, slide, file=file.as_posix())


def _listed(folder: Path, table: Path) -> tuple[Entry, ...]:
    return tuple(_entry(folder, table, row) for row in read_picture_table(table))


def _entry(folder: Path, table: Path, row: PictureRow) -> Entry:
    path = folder / row.file
    if not path.is_file():
        raise SettingsError(
            f"{table.name}, line {row.number}: there is no {row.file} in {folder}",
            f"correct line {row.number}",
        )
    slide = row.slide or PurePosixPath(row.file).stem
    return Entry(row.file, path, slide, row.case, row.organ, row.source, row.split, file=row.file)
