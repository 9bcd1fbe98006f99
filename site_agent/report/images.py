"""Pictures as text, so that the report needs no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.privacy import aligned

Images = NDArray[np.uint8]

_TILE_PX = 256
_THUMBNAIL_PX = 640
_QUALITY = 85


def tile_uri(image: Images) -> str:
    """A tile (H, W, 3) as a JPEG data URI, at most 256 px a side."""
    return _uri(image, _TILE_PX)


def thumbnail_uri(image: Images) -> str:
    """A slide's thumbnail (H, W, 3) as a JPEG data URI, at most 640 px a side."""
    return _uri(image, _THUMBNAIL_PX)


def aligned_uri(synthetic: Images, real: Images) -> tuple[str, str]:
    """A synthetic tile turned as it lies best on a real one: its data URI and the turn."""
    turned, turn = aligned(synthetic, real)
    return tile_uri(turned), turn


def _uri(image: Images, side: int) -> str:
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
