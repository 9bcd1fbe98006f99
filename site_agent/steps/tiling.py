"""First step: every slide or tile set becomes a grid of tiles, or is left out with its reason."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.errors import PixcellError, SettingsError, SlideError
from pixcell_share.files import atomic_path, atomic_write_text
from pixcell_share.progress import View
from pixcell_share.slides import (
    PictureStrip,
    Slide,
    SlideRecord,
    TileGrid,
    Tissue,
    find_tissue,
    lay_grid,
    lay_pictures,
    open_slide,
    write_coords,
    write_geojson,
    write_thumbnail,
)
from site_agent.clock import Clock
from site_agent.run_folder import RunFolder, SlideState
from site_agent.steps.given import given_grid

# A share that was away or a file still being copied may be readable now: try these again.
_WORTH_ANOTHER_TRY = {"unreadable", "unexpected"}


def tile_slides(
    run: RunFolder, records: Sequence[SlideRecord], view: View, clock: Clock
) -> list[SlideState]:
    """The state of each slide in ``records``; slides done before are not opened again."""
    states = {record.slide_id: run.state(record) for record in records}
    missing = [record for record in records if _to_do(states[record.slide_id])]
    with view.stage("tile", len(records), "slides", len(records) - len(missing)) as advance:
        for record in missing:
            state = _tile_or_leave_out(run, record, clock)
            if state.reason:
                view.say(f"left out {record.slide_id}: {state.reason['cause']}")
            states[record.slide_id] = state
            advance(1)
    return [state for state in states.values() if state]


def _to_do(state: SlideState | None) -> bool:
    return state is None or bool(state.reason and state.reason["code"] in _WORTH_ANOTHER_TRY)


def _tile_or_leave_out(run: RunFolder, record: SlideRecord, clock: Clock) -> SlideState:
    began = SlideState(slide_id=record.slide_id, source=record.stamp())
    try:
        return run.keep(_tile(run, record, began, clock))
    except SlideError as error:
        return run.keep(began.left_out(error))
    except PixcellError:
        raise
    except Exception as error:
        return run.keep(began.left_out(unexpected(run, record.slide_id, error)))


class _UnexpectedError(SlideError):
    """A fault of ours, or of a library, that one slide brought out."""

    code = "unexpected"


def unexpected(run: RunFolder, slide_id: str, error: Exception) -> SlideError:
    """Keep the traceback beside the run, so that one slide's surprise does not stop a night."""
    log = run.errors(slide_id)
    atomic_write_text(log, "".join(traceback.format_exception(error)))
    return _UnexpectedError(
        f"{slide_id} brought out an unexpected {type(error).__name__}: {error}",
        f"the traceback is in {log.name} of the work folder: please report it",
    )


def _tile(run: RunFolder, record: SlideRecord, began: SlideState, clock: Clock) -> SlideState:
    settings = run.settings
    with open_slide(record) as slide, clock.measure("tile", 1):
        if isinstance(slide, PictureStrip):
            return _tile_pictures(run, slide, began)
        tissue = find_tissue(slide, settings.tissue)
        grid, counts = _grid(run, slide, tissue)
        write_geojson(run.contours(record.slide_id), tissue)
        write_thumbnail(run.thumbnail(record.slide_id), slide, tissue, grid)
        write_coords(run.coords(record.slide_id), grid)
        return replace(
            began,
            mpp=slide.mpp,
            mpp_source=slide.mpp_source,
            width=slide.width,
            height=slide.height,
            tiles=len(grid.coords),
            counts=counts,
            notes=tuple(slide.notes),
        )


def _tile_pictures(run: RunFolder, strip: PictureStrip, began: SlideState) -> SlideState:
    """Of a tile set: its coordinates and a contact sheet; there are no contours to write."""
    if run.settings.coords is not None:
        raise SettingsError(
            "--coords goes with slides, not with a folder of tiles", "leave --coords out"
        )
    laid = lay_pictures(strip, run.settings.tiling)
    _write_sheet(run.thumbnail(strip.slide_id), laid.sheet)
    write_coords(run.coords(strip.slide_id), laid.grid)
    return replace(
        began,
        mpp=laid.grid.slide_mpp if not strip.mpp else strip.mpp,
        mpp_source=strip.mpp_source,
        width=strip.width,
        height=strip.height,
        tiles=len(laid.grid.coords),
        counts=laid.grid.report.as_dict(),
        notes=laid.notes,
    )


def _write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    with atomic_path(path) as part, part.open("wb") as stream:
        Image.fromarray(sheet).save(stream, "JPEG", quality=88)


def _grid(run: RunFolder, slide: Slide, tissue: Tissue) -> tuple[TileGrid, dict[str, int]]:
    """The given grid of a slide, or a new one with the counts of what was left out of it."""
    settings = run.settings
    if settings.coords is not None:
        return given_grid(settings.coords, slide, settings.tiling), {}
    surveyed = lay_grid(slide, tissue, settings.tiling)
    return surveyed, surveyed.report.as_dict()
