"""Doctor: can each slide or tile set be read, and is there room for what a run makes of them?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.checks import Check, fail, ok, warn
from pixcell_share.errors import PixcellError, SlideError
from pixcell_share.slides import (
    PictureStrip,
    SlideRecord,
    find_slides,
    find_tile_sets,
    open_slide,
    unlisted_slides,
)
from site_agent.doctor.settings import DoctorSettings

__all__ = ["examine_disk", "examine_slides"]

_TILE_PX, _TILE_MPP = 256, 0.5
_TILE_BYTES = 2 * 3 * _TILE_PX**2 + 8192  # private store, bundle, embedding and coordinates
_SPARSE = 20  # a small biopsy covers a twentieth of its slide
_SMALLEST = 2**28  # stores, report and bundle of a single small slide
_SHOWN = 20


@dataclass(frozen=True)
class SlideSurvey:
    """What was learnt from opening every slide."""

    checks: tuple[Check, ...]
    tiles: int = 0
    """Tiles of 256 px at 0.5 µm/px if tissue covered every slide."""


def examine_slides(settings: DoctorSettings) -> SlideSurvey:
    """Open every slide as the run would; one finding for all good ones, one for each bad one."""
    if settings.slides is None and settings.tiles is None:
        return SlideSurvey(())
    try:
        records, unlisted = _find(settings)
    except PixcellError as error:
        return SlideSurvey((fail("slides", error.cause, error.remedy),))
    outcomes = [_examine_slide(record) for record in records]
    bad = [outcome for outcome in outcomes if isinstance(outcome, Check)]
    good = [outcome for outcome in outcomes if not isinstance(outcome, Check)]
    named = any(record.case_id for record in records)
    summary = _summary("tile sets" if settings.tiles else "slides", len(records), good)
    checks = (summary, *bad, *_unlisted(unlisted), *_patients(settings, named))
    return SlideSurvey(checks, sum(slide.tiles for slide in good))


def _find(settings: DoctorSettings) -> tuple[list[SlideRecord], list[str]]:
    """The records of the run, and the slides that the table does not name."""
    if settings.tiles is not None:
        sets = find_tile_sets(
            settings.tiles,
            settings.table,
            patient=settings.patient_column,
            label=settings.label_column,
            mpp=settings.mpp,
        )
        return sets, []
    assert settings.slides is not None
    records = find_slides(settings.slides, table=settings.table, mpp=settings.mpp)
    unlisted = unlisted_slides(settings.slides, settings.table) if settings.table else []
    return records, unlisted


@dataclass(frozen=True)
class _Readable:
    mpp: float
    """0 where nobody knows it."""
    tiles: int


def _examine_slide(record: SlideRecord) -> Check | _Readable:
    try:
        with open_slide(record) as slide:
            if isinstance(slide, PictureStrip):
                slide.check_sizes()
                return _Readable(slide.mpp, len(slide.pictures))
            side = _TILE_PX * _TILE_MPP / slide.mpp
            return _Readable(slide.mpp, int(slide.width / side) * int(slide.height / side))
    except SlideError as error:
        return fail(f"slide {record.slide_id}", error.cause, error.remedy)


def _summary(what: str, count: int, good: list[_Readable]) -> Check:
    if not good:
        return fail(what, f"none of {count} {what} can be used", "see the reasons below")
    low, high = min(slide.mpp for slide in good), max(slide.mpp for slide in good)
    span = f"{low:.3g}" if high - low < 1e-3 else f"{low:.3g} to {high:.3g}"
    resolution = f"{span} µm/px" if high else "µm/px unknown: taken as the tiles' own"
    return ok(what, f"{len(good)} of {count} readable, {resolution}")


def _unlisted(names: list[str]) -> list[Check]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [
        warn(
            "slide table",
            f"it names no row for {', '.join(names[:_SHOWN])}{more}: these stay out of the cohort",
            "add a row for each slide that should take part",
        )
    ]


def _patients(settings: DoctorSettings, named: bool) -> list[Check]:
    """Whether somebody said which patient is which; ``named``: at least one record has a name."""
    if settings.tiles is not None and not named:
        return [
            warn(
                "patients",
                "no patient is named: each picture counts as a patient of its own, and the audit "
                "cannot see what tiles of one patient tell about each other",
                "give --table with the column file and one that names the patient",
            )
        ]
    if settings.table is not None or settings.tiles is not None:
        return []
    return [
        warn(
            "patients",
            "without a table each slide counts as its own patient",
            "give --table with the columns slide,case_id if a patient has several slides",
        )
    ]


def examine_disk(out: Path, tiles: int) -> Check:
    """Free space beside what ``tiles`` tiles would take, one synthetic tile for each."""
    free = shutil.disk_usage(nearest_folder(out)).free
    most = tiles * _TILE_BYTES
    need = f"; a run takes {_gib(most)} at most, if tissue fills every slide" if tiles else ""
    detail = f"{_gib(free)} free{need}"
    remedy = "free some space or choose another --out; `synthesize --dry-run` gives the need"
    if free < max(most // _SPARSE, _SMALLEST):
        return fail("disk", detail, remedy)
    return warn("disk", detail, remedy) if free < most else ok("disk", detail)


def nearest_folder(path: Path) -> Path:
    """``path``, or the closest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
