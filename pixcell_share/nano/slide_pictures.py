"""Whole slides at 0.5 µm/px, to crop from: small ones only, as each is held as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import NotBrightfieldError
from pixcell_share.files import atomic_path
from pixcell_share.slides import SlideRecord, find_slides, open_slide

MPP = 0.5
"""µm/px of the pictures."""


def slide_pictures(folder: Path, cache: Path) -> tuple[NDArray[np.uint8], ...]:
    """Every stained slide of ``folder`` as uint8 (H, W, 3), read once and then memory-mapped.

    Slides that are not brightfield are passed over, as the site agent does; a folder that is not
    there gives none.
    """
    if not folder.is_dir():
        return ()
    read = [_picture(record, cache) for record in find_slides(folder)]
    return tuple(picture for picture in read if picture is not None)


def _picture(record: SlideRecord, cache: Path) -> NDArray[np.uint8] | None:
    path = cache / f"slide-{record.slide_id}.npy"
    if not path.exists():
        try:
            with open_slide(record) as slide:
                longer = max(slide.width, slide.height)
                picture = slide.thumbnail(round(longer * slide.mpp / MPP))
        except NotBrightfieldError:
            return None
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, picture)
    kept: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return kept
