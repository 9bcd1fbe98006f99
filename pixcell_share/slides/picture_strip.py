"""A tile set seen as a slide: its pictures side by side in one row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides._pyramid import Level, Window
from pixcell_share.slides.reader import Slide
from pixcell_share.slides.records import SlideRecord

Pixels = NDArray[np.uint8]

_MAX_SIDE = 8192
_SMALLEST_CELL = 8
_UNREADABLE = (
    OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
_DEEP = ("I", "F")  # more than eight bits a channel: Pillow would cut them off
_REMEDY = "get it again, or take it out of the folder and the table"


class PictureStrip(Slide):
    """The pictures of one record in the place of a slide; none is held open.

    Picture ``i`` is the square at ``(i * side, 0)``, where ``side`` is the width of the first
    picture; one of another size is resized like the others. Only whole pictures can be read:
    beside a picture there is no tissue that belongs to it.

    Attributes:
        side: pixels of level 0 from one picture to the next.
        mpp: µm/px of the pictures; 0 where nobody knows it.
        mpp_source: ``given`` or ``unknown``.
    """

    def __init__(self, record: SlideRecord) -> None:
        """Read the size of the first picture.

        Raises:
            SlideUnreadableError: it is damaged, not square, or too large for a tile.
        """
        # Not `Slide.__init__`: there is no OpenSlide handle behind this one.
        self.slide_id = record.slide_id
        self.path = record.path
        self.pictures = record.pictures
        self.side = _read_side(self.pictures[0])
        self.mpp = record.mpp or 0.0
        self.mpp_source = "given" if record.mpp else "unknown"
        self.notes: tuple[str, ...] = ()
        self.width, self.height = self.side * len(self.pictures), self.side
        self.vendor = ""
        self.levels = (Level(self.width, self.height, 1.0),)
        self.jpeg_tiles = None
        self.no_jpeg_tiles = "it is a set of pictures"

    def close(self) -> None:
        """Nothing is open."""

    def check_sizes(self) -> None:
        """Look at the head of every picture, without its pixels.

        Raises:
            SlideUnreadableError: one is no picture, not square, or too large for a tile.
        """
        for path in self.pictures:
            _read_side(path)

    def region(self, x: int, y: int, tile_px: int, mpp: float) -> Pixels:
        """The picture at ``(x, y)``, uint8 (tile_px, tile_px, 3), whatever ``mpp`` says."""
        return self.square(x, y, self.side, tile_px)

    def square(self, x: int, y: int, size: int, tile_px: int) -> Pixels:
        """The picture at ``(x, y)``, resized (bicubic) to uint8 (tile_px, tile_px, 3).

        Raises:
            ValueError: the square is not that of a picture.
            SlideUnreadableError: the picture is damaged, or not square.
        """
        index, rest = divmod(x, self.side)
        if rest or y or size != self.side or not 0 <= index < len(self.pictures):
            raise ValueError(f"no picture fills the square of {size} px at ({x}, {y})")
        return read_picture(self.pictures[index], tile_px)

    def read_window(self, window: Window) -> Pixels:
        """Whole pictures as they are stored, side by side; see `Slide.read_window`.

        Raises:
            ValueError: the window cuts through a picture.
        """
        if window.width % self.side or window.height != self.side:
            raise ValueError(f"the window {window} cuts through a picture of {self.side} px")
        lefts = range(window.left, window.left + window.width, self.side)
        parts = [self.square(left, window.top, self.side, self.side) for left in lefts]
        return np.concatenate(parts, axis=1)

    def thumbnail(self, max_px: int) -> Pixels:
        """A contact sheet of all pictures, uint8 RGB, its longer side ``max_px`` or less."""
        tiles = (read_picture(path, self.side) for path in self.pictures)
        return contact_sheet(tiles, len(self.pictures), max_px)


def read_picture(path: Path, tile_px: int) -> Pixels:
    """A square picture as uint8 (tile_px, tile_px, 3), resized with Pillow's bicubic filter.

    Transparent parts are white.

    Raises:
        SlideUnreadableError: damaged, not square, too large, or of more than eight bits.
    """
    try:
        with Image.open(path) as image:
            _check_size(path, image)
            picture = _on_white(image)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if picture.size != (tile_px, tile_px):
        picture = picture.resize((tile_px, tile_px), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def contact_sheet(tiles: Iterable[Pixels], count: int, max_px: int) -> Pixels:
    """``count`` square tiles in rows, each shrunk to its cell; uint8 RGB on white.

    At most as many are shown as have a cell of 8 px.
    """
    columns = min(math.ceil(math.sqrt(count)), max(1, max_px // _SMALLEST_CELL))
    rows = min(math.ceil(count / columns), columns)
    sheet: Image.Image | None = None
    cell = 0
    for place, tile in enumerate(tiles):
        if sheet is None:
            cell = max(1, min(len(tile), max_px // columns))
            sheet = Image.new("RGB", (cell * columns, cell * rows), "white")
        if place < columns * rows:
            small = Image.fromarray(tile).resize((cell, cell), Image.Resampling.BOX)
            sheet.paste(small, (place % columns * cell, place // columns * cell))
    if sheet is None:
        raise ValueError("there is no tile to show")
    return np.asarray(sheet)


def _read_side(path: Path) -> int:
    try:
        with Image.open(path) as image:
            _check_size(path, image)
            return image.width
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width != image.height:
        raise SlideUnreadableError(
            f"{path.name} is {image.width} x {image.height} px, and a tile is square",
            "cut the pictures into squares first",
        )
    if image.width > _MAX_SIDE:
        raise SlideUnreadableError(
            f"{path.name} is {image.width} px wide: that is no tile", "give it with --slides"
        )
    if image.mode.split(";")[0] in _DEEP:
        raise SlideUnreadableError(
            f"{path.name} has more than eight bits a channel (mode {image.mode})",
            "save it as an RGB picture of eight bits a channel",
        )


def _on_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    ground = Image.new("RGB", seen.size, "white")
    ground.paste(seen, mask=seen.getchannel("A"))
    return ground


def _unreadable(path: Path, error: Exception) -> SlideUnreadableError:
    return SlideUnreadableError(f"{path.name} cannot be read as a picture: {error}", _REMEDY)
