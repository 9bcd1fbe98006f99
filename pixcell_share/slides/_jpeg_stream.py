"""Make a JPEG stream stored in a TIFF tile complete, and its colour space plain."""

from __future__ import annotations

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
_APPLICATION = range(0xE0, 0xF0)

# Adobe's APP14 segment (Adobe Technical Note 5116, section 18): its last byte tells the
# decoder the colour transform: 0 for RGB as it is, 1 for YCbCr.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_ADOBE_RGB, _ADOBE_YCBCR = _ADOBE + b"\x00", _ADOBE + b"\x01"


def complete_stream(data: bytes, tables: bytes, *, ycbcr: bool) -> bytes:
    """A stream that any decoder reads as OpenSlide would.

    Scanners store the quantisation and Huffman tables once, in the JPEGTables tag, and each tile
    without them (TIFF Technical Note 2). They also store RGB without a marker that says so, which
    decoders take for YCbCr; the TIFF's photometric tag is the truth, as it is to OpenSlide.

    Args:
        data: the tile as stored.
        tables: the JPEGTables tag, empty if there is none.
        ycbcr: whether the photometric tag says YCbCr, and not RGB.
    """
    marker = _ADOBE_YCBCR if ycbcr else _ADOBE_RGB
    # Tables come first: a tile's own ones, if it has any, then replace them.
    return b"".join((_SOI, marker, _body(tables), data[_after_colour_hints(data) :]))


def _body(tables: bytes) -> bytes:
    return tables.removeprefix(_SOI).removesuffix(_EOI)


def _after_colour_hints(data: bytes) -> int:
    """Where the stream goes on after SOI and the leading application segments."""
    at = len(_SOI)
    while data[at : at + 1] == b"\xff" and data[at + 1] in _APPLICATION:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at
