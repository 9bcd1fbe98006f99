"""Regions of whole slides: tissue, grid and tile checks as everywhere in this program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.slides import (
    SlideRecord,
    TileGrid,
    TilingSettings,
    TissueSettings,
    find_slides,
    find_tissue,
    lay_grid,
    level0_tile_px,
    open_slide,
    read_tiles,
)
from pixcell_share.training.latents.entries import Corners, Entry, Picture, Survey
from pixcell_share.training.latents.picture_table import given_split

_COLUMNS = ("organ", "source", "split")


class SlideSource:
    """The tissue regions of the slides of a folder.

    Args:
        folder: of the slides.
        table: a slides.csv, with ``organ``, ``source`` and ``split`` besides its usual columns.
        region_px: side of a region.
        mpp: resolution of a region.
        slide_mpp: of slides that do not carry it.
        overlap_px: how far neighbouring regions overlap.

    Raises:
        SettingsError: no slides, or a wrong table.
    """

    unit = "slides"

    def __init__(
        self,
        folder: Path,
        table: Path | None,
        *,
        region_px: int,
        mpp: float,
        slide_mpp: float | None = None,
        overlap_px: int = 0,
    ) -> None:
        self.mpp: float | None = mpp
        self._tiling = TilingSettings(tile_px=region_px, mpp=mpp, overlap_px=overlap_px)
        self._tissue = TissueSettings()
        records = find_slides(folder, table=table, mpp=slide_mpp, more=_COLUMNS)
        self.entries = tuple(_entry(record) for record in records)

    def survey(self, entry: Entry) -> Survey:
        """Lay the grid.

        Raises:
            SlideError: the slide cannot be read, is no stained section, or shows no tissue.
        """
        with open_slide(entry.more) as slide:
            grid = lay_grid(slide, find_tissue(slide, self._tissue), self._tiling)
        return Survey(grid.coords, grid.report.as_dict())

    def read(self, entry: Entry, corners: Corners) -> Iterator[Picture]:
        """Read regions.

        Raises:
            SlideError: the slide is damaged at one of them.
        """
        tiling = self._tiling
        with open_slide(entry.more) as slide:
            side = level0_tile_px(tiling.tile_px, tiling.mpp, slide.mpp)
            grid = TileGrid(
                slide.slide_id, corners, tiling.tile_px, side, tiling.mpp, slide.mpp,
                slide.width, slide.height,
            )  # fmt: skip
            yield from read_tiles(slide, grid)


def _entry(record: SlideRecord) -> Entry:
    more = record.more
    try:
        split = given_split(more.get("split", ""))
    except ValueError as error:
        raise SettingsError(f"{record.slide_id}: {error}", "correct the slide table") from error
    return Entry(
        name=record.slide_id,
        path=record.path,
        slide=record.slide_id,
        case=record.case_id or "",
        organ=more.get("organ") or record.label or "",
        source=more.get("source", ""),
        split=split,
        more=record,
    )
