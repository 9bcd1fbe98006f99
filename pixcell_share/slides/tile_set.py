"""Tile sets: sites that hold tiles as picture files, in place of slides.

The tiles of one patient and class make one record, which `open_slide` opens as a slide whose
tiles are those pictures.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.slides._mpp import MAX_MPP, MIN_MPP, is_plausible
from pixcell_share.slides._slide_table import table_error
from pixcell_share.slides._tile_table import LABEL_COLUMN, PATIENT_COLUMN, read_tile_table
from pixcell_share.slides.records import SlideRecord

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
"""File name endings that are taken for tiles, in either case."""

_MAX_ID = 80  # file names of the work folder begin with it
_Set = tuple[str | None, str | None]
"""Patient and label."""


def find_tile_sets(
    folder: Path,
    table: Path | None = None,
    *,
    patient: str = PATIENT_COLUMN,
    label: str = LABEL_COLUMN,
    mpp: float | None = None,
) -> list[SlideRecord]:
    """The tiles under ``folder`` as one record for each patient and label, sorted by ``slide_id``.

    With a table only the pictures that it names are used. Without one, each picture counts as its
    own patient, and the first sub-folder is its label.

    Args:
        folder: of PNG, JPEG or TIFF files, sub-folders included.
        table: a CSV with the column ``file``, relative to ``folder``; other columns are allowed.
        patient: its column that names the patient; ``case_id`` is used where it is there.
        label: its column that names the class; ``label`` is used where it is there.
        mpp: µm/px of the pictures, if it is known.

    Raises:
        SettingsError: no picture, an implausible ``mpp``, or a wrong table: a file that is
            missing, named twice or outside the folder is named with its row.
    """
    if mpp is not None and not is_plausible(mpp):
        raise SettingsError(
            f"--mpp {mpp:g} is not between {MIN_MPP} and {MAX_MPP} µm/px",
            "give the resolution of the tiles, 0.5 for most 20x pictures",
        )
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}", "give the folder of your tiles")
    if table is None:
        records = _by_folder(folder, mpp)
    else:
        records = _by_table(folder, table, patient, label, mpp)
    return sorted(records, key=lambda record: record.slide_id)


def _by_table(
    folder: Path, table: Path, patient: str, label: str, mpp: float | None
) -> Iterable[SlideRecord]:
    sets: defaultdict[_Set, list[Path]] = defaultdict(list)
    single: list[tuple[Path, str | None]] = []
    rows: dict[str, int] = {}
    for row in read_tile_table(table, patient=patient, label=label):
        path = folder / row.file
        if row.file in rows:
            raise table_error(
                table, row.number, f"{row.file} was already named in row {rows[row.file]}"
            )
        if not path.is_file():
            raise table_error(table, row.number, f"there is no {row.file} in the folder of tiles")
        rows[row.file] = row.number
        if row.patient is None:
            single.append((path, row.label))
        else:
            sets[row.patient, row.label].append(path)
    return [*_records(folder, sets, mpp), *_own_patients(folder, single, mpp)]


def _records(
    folder: Path, sets: dict[_Set, list[Path]], mpp: float | None
) -> Iterable[SlideRecord]:
    labels = Counter(patient for patient, _ in sets)
    wanted = {
        key: str(key[0]) if labels[key[0]] == 1 else f"{key[0]}-{key[1] or 'unlabelled'}"
        for key in sets
    }
    ids = _identifiers({f"{key[0]}\0{key[1]}": text for key, text in wanted.items()})
    for (case, label), paths in sets.items():
        slide_id = ids[f"{case}\0{label}"]
        yield SlideRecord(slide_id, folder, mpp, case, label, pictures=tuple(sorted(paths)))


def _by_folder(folder: Path, mpp: float | None) -> Iterable[SlideRecord]:
    found: list[tuple[Path, str | None]] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(parent).relative_to(folder).parts
        found += [
            (Path(parent) / name, inside[0] if inside else None)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES
        ]
    if not found:
        endings = " ".join(sorted(PICTURE_SUFFIXES))
        raise SettingsError(f"no picture in {folder}", f"pictures end in one of: {endings}")
    return _own_patients(folder, found, mpp)


def _own_patients(
    folder: Path, files: list[tuple[Path, str | None]], mpp: float | None
) -> Iterable[SlideRecord]:
    names = {path: path.relative_to(folder).as_posix() for path, _ in files}
    ids = _identifiers({name: path.stem for path, name in names.items()})
    for path, label in files:
        yield SlideRecord(ids[names[path]], folder, mpp, None, label, pictures=(path,))


def _identifiers(wanted: dict[str, str]) -> dict[str, str]:
    """For each key an id that can be a file name: its text, with a digest of the key where needed.

    An id does not change when other sets are added, unless their texts are equal.
    """
    clean = {key: re.sub(r"[^\w.-]+", "-", text)[:_MAX_ID] for key, text in wanted.items()}
    # Case is folded since some file systems ignore it.
    count = Counter(text.casefold() for text in clean.values())
    ids = {}
    for key, text in clean.items():
        fits = text == wanted[key] and text[0] not in ".-" and count[text.casefold()] == 1
        digest = hashlib.sha256(key.encode()).hexdigest()[:6]
        ids[key] = text if fits else f"{text.strip('.-') or 'tiles'}-{digest}"
    return ids


def _unreadable(error: OSError) -> None:
    raise SettingsError(
        f"the folder {error.filename} cannot be read: {error.strerror}",
        "change its permissions, or move it out of the folder of tiles",
    ) from error
