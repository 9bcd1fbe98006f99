"""Find the slides of a cohort, and join what the user's table says about them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.errors import SettingsError
from pixcell_share.slides._mpp import MAX_MPP, MIN_MPP, is_plausible
from pixcell_share.slides._slide_table import TableRow, read_slide_table, table_error

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".dcm", ".scn", ".bif", ".svslide", ".vms", ".vmu"}
)
"""File name endings that are taken for slides, in either case."""


@dataclass(frozen=True)
class SlideRecord:
    """One slide of the cohort, or one patient's set of tiles, before it is opened."""

    slide_id: str
    """Unique in the run: the file's stem, or ``<stem>-<6 hex>`` where stems are equal."""
    path: Path
    """The file; for a DICOM series the first file of its folder."""
    mpp: float | None = None
    """µm/px that the user gave, in the table or with ``--mpp``; None leaves it to the file."""
    case_id: str | None = None
    """The patient; None where no table says it, and each slide then counts as its own patient."""
    label: str | None = None
    """The slide's class, if the table says one."""
    more: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further columns of the table, those that `find_slides` was asked for."""
    pictures: tuple[Path, ...] = ()
    """Of a tile set (`find_tile_sets`): its picture files, and ``path`` is the folder they were
    found in. Empty for a slide."""

    def stamp(self) -> dict[str, Any]:
        """What changes when the files do: bytes, time of the last change, and the µm/px given.

        A tile set adds a digest of the name, size and time of each picture. A file that cannot be
        looked at counts as -1, so that it differs from what it was.
        """
        files = self.pictures or (self.path,)
        looks = [_size_and_time(path) for path in files]
        found: dict[str, Any] = {
            "bytes": sum(size for size, _ in looks),
            "changed_ns": max(changed for _, changed in looks),
            "mpp": self.mpp,
        }
        if self.pictures:
            lines = [
                f"{_relative(self.path, path)} {size} {changed}\n"
                for path, (size, changed) in zip(files, looks, strict=True)
            ]
            found["pictures"] = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
        return found


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def find_slides(
    folder: Path,
    *,
    table: Path | None = None,
    mpp: float | None = None,
    more: Sequence[str] = (),
) -> list[SlideRecord]:
    """The slides under ``folder``, sub-folders included, sorted by ``slide_id``.

    Hidden files and the data folders of MRXS slides are passed over. A folder of ``.dcm`` files
    counts as one slide named after the folder: OpenSlide collects the files of the series itself,
    so keep one series per folder. With a table only the slides that it names are returned;
    `unlisted_slides` tells the others.

    Args:
        folder: the folder, or one slide file.
        table: a slides.csv with the columns ``slide``, ``mpp``, ``case_id``, ``label``.
        mpp: µm/px for slides whose row has none.
        more: columns that the table may have besides; `SlideRecord.more` holds them.

    Raises:
        SettingsError: no slides, an implausible ``mpp``, or a wrong table.
    """
    if mpp is not None and not is_plausible(mpp):
        raise SettingsError(
            f"--mpp {mpp:g} is not between {MIN_MPP} and {MAX_MPP} µm/px",
            "give the resolution of level 0, 0.25 for most 40x scans",
        )
    files = _slide_files(folder)
    names = _slide_ids(folder, files)
    if table is None:
        records = [SlideRecord(names[path], path, mpp) for path in files]
    else:
        rows = _match_rows(folder, table, files, more)
        records = [
            SlideRecord(names[path], path, row.mpp or mpp, row.case_id, row.label, row.more)
            for path, row in rows.items()
        ]
    return sorted(records, key=lambda record: record.slide_id)


def unlisted_slides(folder: Path, table: Path) -> list[str]:
    """Relative paths of the slides under ``folder`` that ``table`` does not name, sorted."""
    files = _slide_files(folder)
    listed = _match_rows(folder, table, files)
    return [_relative(folder, path) for path in files if path not in listed]


def _slide_files(folder: Path) -> list[Path]:
    """Every slide file, sorted by relative path."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}", "give the folder of your slides")
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable_folder):
        found += _slides_in(Path(parent), names)
        companions = {Path(name).stem for name in names if name.lower().endswith(".mrxs")}
        folders[:] = [f for f in folders if f not in companions and not f.startswith(".")]
    if not found:
        endings = " ".join(sorted(SLIDE_SUFFIXES))
        raise SettingsError(f"no slide in {folder}", f"slides end in one of: {endings}")
    return sorted(found, key=lambda path: _relative(folder, path))


def _slides_in(parent: Path, names: list[str]) -> list[Path]:
    visible = sorted(name for name in names if not name.startswith("."))
    paths = [parent / name for name in visible if Path(name).suffix.lower() in SLIDE_SUFFIXES]
    series = [path for path in paths if _is_dicom(path)]
    return [path for path in paths if not _is_dicom(path)] + series[:1]


def _unreadable_folder(error: OSError) -> None:
    raise SettingsError(
        f"the folder {error.filename} cannot be read: {error.strerror}",
        "change its permissions, or move it out of the folder of slides",
    ) from error


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _relative(folder: Path, path: Path) -> str:
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _stem(folder: Path, path: Path) -> str:
    """A DICOM file's own name is a meaningless UID: its folder names the slide."""
    in_subfolder = path != folder and path.parent != folder
    return path.parent.name if _is_dicom(path) and in_subfolder else path.stem


def _slide_ids(folder: Path, files: list[Path]) -> dict[Path, str]:
    # Case is folded since ids become file names, and some file systems ignore case.
    count = Counter(_stem(folder, path).casefold() for path in files)
    ids = {}
    for path in files:
        stem = _stem(folder, path)
        digest = hashlib.sha256(_relative(folder, path).encode()).hexdigest()[:6]
        ids[path] = stem if count[stem.casefold()] == 1 else f"{stem}-{digest}"
    return ids


def _match_rows(
    folder: Path, table: Path, files: list[Path], more: Sequence[str] = ()
) -> dict[Path, TableRow]:
    """The row of each slide that the table names."""
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        for name in _names(folder, path):
            named[name].append(path)
    matched: dict[Path, TableRow] = {}
    for row in read_slide_table(table, more):
        paths = named.get(row.slide, [])
        if not paths:
            raise table_error(table, row.number, f"there is no slide {row.slide}")
        exact = [path for path in paths if row.slide == _relative(folder, path)]
        if len(paths) > 1 and len(exact) != 1:
            raise table_error(
                table, row.number, f"{row.slide} names {len(paths)} slides: give its relative path"
            )
        path = (exact or paths)[0]
        if path in matched:
            raise table_error(
                table, row.number, f"{row.slide} was already named in row {matched[path].number}"
            )
        matched[path] = row
    if not matched:
        raise SettingsError(f"{table.name} names no slide", "add a row for each slide")
    return matched


def _names(folder: Path, path: Path) -> set[str]:
    """What a row may call this slide."""
    relative = _relative(folder, path)
    names = {path.name, relative}
    if _is_dicom(path) and "/" in relative:
        names |= {path.parent.name, relative.rpartition("/")[0]}
    return names
