"""Open a slide with OpenSlide and read tiles of a given resolution from it."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.errors import NotBrightfieldError, SlideUnreadableError
from pixcell_share.slides._mpp import Resolution, resolve_mpp
from pixcell_share.slides._pyramid import Level, Window, best_level, read_square
from pixcell_share.slides._stored_tiles import UnsupportedLayoutError
from pixcell_share.slides.false_colours import in_false_colours
from pixcell_share.slides.grid_format import level0_tile_px
from pixcell_share.slides.jpeg_tiles import JpegTiles
from pixcell_share.slides.quality import require_brightfield
from pixcell_share.slides.records import SlideRecord

CACHE_BYTES = 96 * 2**20
"""Decoded pixels kept per open slide: two rows of 256 px stored tiles at 100,000 px width fit."""

_WHITE = (255, 255, 255)
_MAX_STORED_TILE_PX = 2**28
_STRIP_PX = 8 * 2**20
_LOOK_PX = 512
_REMEDY = "copy it again from the scanner or archive, or take it out of the folder"


class Slide:
    """A slide that is open for reading; use it in a ``with`` block.

    The label and macro pictures are never read: they can show a patient's name.

    Attributes:
        slide_id: identifier, unique in the run.
        path: the file.
        mpp: µm/px of level 0.
        mpp_source: ``file`` or ``given``.
        notes: remarks for the report, in plain sentences.
        width: pixels of level 0 across.
        height: pixels of level 0 down.
        levels: size and downsample of each level.
        jpeg_tiles: the fast path, or None where the slide is no pyramid of JPEG tiles.
        no_jpeg_tiles: why there is no fast path.
    """

    shrinks: tuple[int, ...] = ()

    def __init__(
        self, record: SlideRecord, handle: openslide.OpenSlide, resolution: Resolution
    ) -> None:
        self.slide_id = record.slide_id
        self.path = record.path
        self.mpp = resolution.mpp
        self.mpp_source = resolution.source
        self.notes: tuple[str, ...] = (resolution.note,) if resolution.note else ()
        self.width, self.height = handle.dimensions
        self.vendor = str(handle.properties.get("openslide.vendor", ""))
        self.levels = tuple(
            Level(width, height, downsample)
            for (width, height), downsample in zip(
                handle.level_dimensions, handle.level_downsamples, strict=True
            )
        )
        self.jpeg_tiles: JpegTiles | None = None
        self.no_jpeg_tiles = ""
        self._handle = handle
        self._mended = False
        try:
            self.jpeg_tiles = JpegTiles(self.path, self.vendor, self.levels, CACHE_BYTES)
        except UnsupportedLayoutError as reason:
            self.no_jpeg_tiles = str(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.jpeg_tiles is not None:
            self.jpeg_tiles.close()
        self._handle.close()

    def region(self, x: int, y: int, tile_px: int, mpp: float) -> NDArray[np.uint8]:
        """A tile at ``mpp`` µm/px, uint8 (tile_px, tile_px, 3); white outside the slide.

        Args:
            x: left edge in pixels of level 0.
            y: upper edge in pixels of level 0.
            tile_px: side of the tile.
            mpp: its resolution; read from the coarsest level that has the detail.

        Raises:
            SlideUnreadableError: the file is damaged where the tile lies.
        """
        return self.square(x, y, level0_tile_px(tile_px, mpp, self.mpp), tile_px)

    def square(self, x: int, y: int, size: int, tile_px: int) -> NDArray[np.uint8]:
        """As `region`, for a square of ``size`` pixels of level 0."""
        return read_square(self, x, y, size, tile_px)

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """The whole slide, uint8 RGB, its longer side ``max_px`` or less; never enlarged.

        It is averaged from the best level in strips, so that a slide without small levels does
        not fill the memory.
        """
        ratio = max(1.0, max(self.width, self.height) / max_px)
        index = best_level(self.levels, ratio)
        level = self.levels[index]
        width, height = (max(1, round(side / ratio)) for side in (self.width, self.height))
        step = level.height / height
        rows = max(1, int(_STRIP_PX / (level.width * step)))
        strips = []
        for first in range(0, height, rows):
            last = min(first + rows, height)
            top, bottom = first * step, last * step
            start = math.floor(top)
            stop = min(math.ceil(bottom - 1e-6), level.height)
            pixels = self.read_window(Window(index, 1, 0, start, level.width, stop - start))
            box = (0, top - start, level.width, min(bottom - start, stop - start))
            image = Image.fromarray(pixels)
            strips.append(image.resize((width, last - first), Image.Resampling.BOX, box=box))
        return np.concatenate([np.asarray(strip) for strip in strips])

    def read_window(self, window: Window) -> NDArray[np.uint8]:
        """A rectangle of one level as it is stored, uint8 (height, width, 3)."""
        if self._mended and self.jpeg_tiles is not None:
            return self.jpeg_tiles.read_window(window)
        downsample = self.levels[window.level].downsample
        corner = (round(window.left * downsample), round(window.top * downsample))
        size = (window.width, window.height)
        try:
            tile = self._handle.read_region(corner, window.level, size)
        except openslide.OpenSlideError as error:
            raise SlideUnreadableError(
                f"{self.path.name} is damaged near x={corner[0]}, y={corner[1]}: {error}", _REMEDY
            ) from error
        ground = Image.new("RGB", size, _WHITE)
        ground.paste(tile, mask=tile)
        return np.asarray(ground)

    def mend_colours(self) -> None:
        """Where the tiles hold RGB marked as YCbCr, read them as what they are, with a note."""
        picture = self.thumbnail(_LOOK_PX)
        if not in_false_colours(picture):
            return
        if self.jpeg_tiles is not None:
            self.jpeg_tiles.take_as_rgb()
            self._mended = True
        if self._mended and not in_false_colours(self.thumbnail(_LOOK_PX)):
            note = "its JPEG tiles hold RGB but are marked YCbCr: they are read as RGB"
        else:
            note = "its colours are false: export it again from the scanner's software"
        self.notes = (*self.notes, note)


def open_slide(record: SlideRecord, *, inspect: bool = True) -> Slide:
    """Open the slide of ``record``, or its pictures as a slide (`PictureStrip`).

    Args:
        record: the slide or tile set.
        inspect: look at the pixels, to mend false colours (`Slide.mend_colours`) and to refuse
            fluorescence that the metadata does not name; without, the pixels are OpenSlide's.
            Pictures are opened one by one and inspected as they are read (`lay_pictures`).

    Raises:
        SlideUnreadableError: empty, truncated, without permission, or not a slide.
        MppMissingError: no µm/px in the file nor in the record.
        NotBrightfieldError: a fluorescence slide, by its metadata or by its pixels.
    """
    if record.pictures:
        from pixcell_share.slides.picture_strip import PictureStrip  # which builds on `Slide`

        return PictureStrip(record)
    handle = _open_handle(record)
    try:
        properties = dict(handle.properties)
        _refuse_absurd_tiles(record.path.name, properties)
        _refuse_fluorescence(record.path.name, properties)
        slide = Slide(record, handle, resolve_mpp(record.path.name, properties, record.mpp))
        if inspect:
            slide.mend_colours()
            require_brightfield(slide.thumbnail(_LOOK_PX), slide.slide_id)
    except BaseException:
        handle.close()
        raise
    return slide


def _open_handle(record: SlideRecord) -> openslide.OpenSlide:
    name = record.path.name
    try:
        if record.path.stat().st_size == 0:
            raise SlideUnreadableError(f"{name} is empty (0 bytes)", _REMEDY)
        with record.path.open("rb"):
            pass
        handle = openslide.OpenSlide(record.path)
    except PermissionError as error:
        raise SlideUnreadableError(
            f"{name} may not be read by this user", "ask for permission to read it"
        ) from error
    except OSError as error:
        raise SlideUnreadableError(f"{name} cannot be read: {error}", _REMEDY) from error
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideUnreadableError(
            f"{name} is not a slide that OpenSlide knows, or its beginning is damaged", _REMEDY
        ) from error
    except openslide.OpenSlideError as error:
        raise SlideUnreadableError(f"{name} cannot be opened: {error}", _REMEDY) from error
    handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
    return handle


def _refuse_absurd_tiles(name: str, properties: dict[str, str]) -> None:
    """OpenSlide ends the whole process when it cannot allocate a stored tile."""
    for key, width in properties.items():
        if key.startswith("openslide.level[") and key.endswith("].tile-width"):
            height = properties.get(key.replace("tile-width", "tile-height"), "1")
            if int(width) * int(height) > _MAX_STORED_TILE_PX:
                raise SlideUnreadableError(
                    f"{name} is damaged: it says its stored tiles measure {width} x {height} px",
                    _REMEDY,
                )


def _refuse_fluorescence(name: str, properties: dict[str, str]) -> None:
    """Believe a scanner that says so itself; other slides are judged by their pixels."""
    for key, value in properties.items():
        says_mirax = key.endswith("SLIDE_TYPE") and "FLUORESCENCE" in value.upper()
        says_dicom = "IlluminationTypeCodeSequence" in key and "epifluorescence" in value.lower()
        if says_mirax or says_dicom:
            raise NotBrightfieldError(
                f"{name} is a fluorescence slide ({key} = {value})",
                "take it out of the folder: only stained brightfield sections can be used",
            )
