"""Data sets as folders of pictures: ready parts, or classes that are divided here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation.embedded import PARTS
from pixcell_share.evaluation.images import ImageDataset, ImagePart, PictureFiles
from pixcell_share.slides._tile_table import LABEL_COLUMN, PATIENT_COLUMN, read_tile_table
from pixcell_share.slides.tile_set import PICTURE_SUFFIXES


@dataclass(frozen=True)
class Division:
    """How pictures without parts are divided."""

    val: float = 0.15
    """Share of the groups of each class that make the validation part."""
    test: float = 0.25
    """Share of the groups of each class that make the test part."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val > 0 and self.test > 0 and self.val + self.test < 1):
            raise SettingsError(
                f"shares of {self.val} and {self.test} leave a part empty",
                "give shares above 0 that are together below 1",
            )


@dataclass(frozen=True)
class _Labelled:
    file: str
    label: str
    group: str


def read_image_folder(
    folder: Path,
    *,
    table: Path | None = None,
    label: str = LABEL_COLUMN,
    group: str = PATIENT_COLUMN,
    division: Division = Division(),
) -> ImageDataset:
    """The pictures under ``folder``; classes are numbered in the order of their names.

    With ``train/CLASS/...``, ``val/CLASS/...`` and ``test/CLASS/...`` the parts are as they lie.
    With ``CLASS/...`` alone, or a table, they are divided **by group**, so that pictures of one
    group (a patient, a slide, copies of one original) lie in one part. Without a table each picture
    is a group of its own, which makes figures too good where pictures belong together.

    Args:
        folder: of PNG, JPEG or TIFF files.
        table: a CSV with the column ``file`` (relative to ``folder``) and those named below.
        label: column of the class.
        group: column of the group.
        division: the shares.

    Raises:
        DataError: no picture, or a part that would lack a class that others have.
        SettingsError: a wrong table.
    """
    if table is not None:
        rows = read_tile_table(table, patient=group, label=label)
        found = [_Labelled(row.file, row.label or "", row.patient or row.file) for row in rows]
        return _dataset(folder, _divide(found, division))
    if all((folder / part).is_dir() for part in PARTS):
        return _dataset(folder, {part: _by_class(folder, folder / part) for part in PARTS})
    return _dataset(folder, _divide(_by_class(folder, folder), division))


def _by_class(root: Path, folder: Path) -> list[_Labelled]:
    """Pictures in the folders of classes, sorted by name."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "give the folder of your pictures")
    files = (path for path in folder.glob("*/**/*") if path.suffix.lower() in PICTURE_SUFFIXES)
    names = sorted((path.relative_to(root).as_posix(), path.relative_to(folder)) for path in files)
    return [_Labelled(name, below.parts[0], name) for name, below in names]


def _divide(pictures: Sequence[_Labelled], division: Division) -> dict[str, list[_Labelled]]:
    """Groups are dealt class by class; a group of several classes goes with its first."""
    class_of: dict[str, str] = {}
    for picture in pictures:
        class_of.setdefault(picture.group, picture.label)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for group, label in sorted(class_of.items()):
        groups[label].append(group)
    rng = np.random.default_rng(division.seed)
    part_of: dict[str, str] = {}
    for label in sorted(groups):
        part_of |= _deal([str(group) for group in rng.permutation(groups[label])], division)
    parts: dict[str, list[_Labelled]] = {part: [] for part in PARTS}
    for picture in pictures:
        parts[part_of[picture.group]].append(picture)
    return parts


def _deal(groups: Sequence[str], division: Division) -> dict[str, str]:
    """The part of each group of one class; each part gets one at least, if there are three."""
    test, val = (max(1, round(share * len(groups))) for share in (division.test, division.val))
    ends = {"test": groups[:test], "val": groups[test : test + val], "train": groups[test + val :]}
    return {group: part for part, own in ends.items() for group in own}


def _dataset(folder: Path, parts: Mapping[str, Sequence[_Labelled]]) -> ImageDataset:
    names = sorted({picture.label for own in parts.values() for picture in own})
    for part, own in parts.items():
        lacking = [name for name in names if name not in {picture.label for picture in own}]
        if lacking or not own:
            raise DataError(
                f"{folder}: the part {part} has no picture{_of(lacking)}",
                "give at least three groups of each class, or other shares",
            )
    train, val, test = (_part(folder, parts[part], names) for part in PARTS)
    return ImageDataset(folder.resolve().name, train, val, test, tuple(names))


def _part(folder: Path, pictures: Iterable[_Labelled], names: Sequence[str]) -> ImagePart:
    pictures = list(pictures)
    labels = np.array([names.index(picture.label) for picture in pictures], np.int64)
    return ImagePart(PictureFiles(folder, tuple(picture.file for picture in pictures)), labels)


def _of(names: Sequence[str]) -> str:
    return f" of {', '.join(names)}" if names else ""
