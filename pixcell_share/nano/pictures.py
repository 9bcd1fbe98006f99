"""Contact sheets: rows of tiles in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pixcell_share.files import atomic_path
from pixcell_share.nano.tiles import Images


def write_sheet(path: Path, rows: Sequence[Images], *, gap: int = 4) -> None:
    """Write rows of equally many tiles (N, H, W, 3) as one PNG on white.

    Raises:
        StorageError: the file cannot be written.
    """
    lines = [np.concatenate([_framed(tile, gap) for tile in row], axis=1) for row in rows]
    sheet = Image.fromarray(np.concatenate(lines, axis=0))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _framed(tile: Images, gap: int) -> Images:
    return np.pad(tile, ((0, gap), (0, gap), (0, 0)), constant_values=255)
