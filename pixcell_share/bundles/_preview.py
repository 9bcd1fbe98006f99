"""`preview.png`: a contact sheet of the first synthetic tiles, and nothing else in the file."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError

COLUMNS, ROWS = 6, 4
CELL_PX, GAP_PX = 128, 4
MAX_PREVIEW_BYTES = 4 << 20
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ALLOWED_CHUNKS = (b"IHDR", b"IDAT", b"IEND")


class ContactSheet:
    """Collects tiles as they pass, until the sheet is full."""

    def __init__(self) -> None:
        self._cells: list[Image.Image] = []

    def add(self, tile: npt.NDArray[np.uint8]) -> None:
        """Take one tile ``(H, W, 3)``; ignored when the sheet is full."""
        if len(self._cells) < COLUMNS * ROWS:
            image = Image.fromarray(tile)
            self._cells.append(image.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS))

    def to_png(self) -> bytes:
        """The sheet as an RGB PNG without text, time, or any other metadata."""
        columns = min(COLUMNS, len(self._cells))
        rows = -(-len(self._cells) // columns)
        pitch = CELL_PX + GAP_PX
        sheet = Image.new("RGB", (columns * pitch - GAP_PX, rows * pitch - GAP_PX), "white")
        for i, cell in enumerate(self._cells):
            sheet.paste(cell, (i % columns * pitch, i // columns * pitch))
        buffer = BytesIO()
        sheet.save(buffer, format="PNG", compress_level=6)
        return buffer.getvalue()


def check_png(data: bytes, name: str) -> None:
    """Refuse a PNG with any chunk beside the picture itself. The picture is not decoded.

    Raises:
        FormatError: naming the chunk.
    """
    if len(data) > MAX_PREVIEW_BYTES or not data.startswith(_SIGNATURE):
        what = f"is not a PNG of at most {MAX_PREVIEW_BYTES} bytes"
        raise _bad(name, what, Fault.PREVIEW_NOT_PNG)
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind not in _ALLOWED_CHUNKS:
            what = f"has a {ascii(kind)[2:-1]} chunk, and only the picture belongs in it"
            raise _bad(name, what, Fault.PREVIEW_HIDES_DATA)
        at += 12 + length
    if at != len(data):
        raise _bad(name, "has bytes after its end", Fault.PREVIEW_HIDES_DATA)


def _bad(name: str, what: str, fault: Fault) -> FormatError:
    return FormatError(f"{name} {what}", "ask the site to write and send the bundle again", fault)
