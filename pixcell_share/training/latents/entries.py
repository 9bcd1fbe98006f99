"""What a store is made from: slides with many regions each, or pictures that are one region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixcell_share.training.latents.info import Split
from pixcell_share.training.latents.shards import IndexRow

Corners = NDArray[np.int64]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """One slide or one picture."""

    name: str
    """Unique in the store: the slide's id, or the picture's path relative to its folder."""
    path: Path
    slide: str
    """The slide that it is, or that it was cut from."""
    case: str = ""
    """The patient; empty where no table says it."""
    organ: str = ""
    source: str = ""
    split: Split | None = None
    """The side that the table gives; None leaves it to the holdout."""
    file: str = ""
    """As the index names it; empty for a slide."""
    more: Any = field(default=None, compare=False)
    """What its `RegionSource` needs to read it."""

    @property
    def size(self) -> int:
        """Bytes of the file, -1 where it cannot be looked at."""
        try:
            return self.path.stat().st_size
        except OSError:
            return -1

    def row(self, corner: tuple[int, int], turn: int) -> IndexRow:
        """The index row of one region in one orientation."""
        x, y = ("", "") if self.file else map(str, corner)
        return IndexRow(self.slide, self.case, self.organ, self.source, x, y, str(turn), self.file)


@dataclass(frozen=True)
class Survey:
    """The regions of one entry."""

    corners: Corners
    """int64 (N, 2): left and upper edge in pixels of level 0; (0, 0) for a picture."""
    counts: dict[str, int] = field(default_factory=dict)
    """Candidates, and why some of them are no regions."""


class RegionSource(Protocol):
    """Where regions come from."""

    unit: str
    """``slides`` or ``pictures``."""
    mpp: float | None
    """Resolution of the regions in µm/px."""
    entries: tuple[Entry, ...]

    def survey(self, entry: Entry) -> Survey:
        """Find the regions of an entry; raises a `SlideError` where there are none."""

    def read(self, entry: Entry, corners: Corners) -> Iterator[Picture]:
        """Regions uint8 (P, P, 3) of an entry, in the order of ``corners``."""


def turned(picture: Picture, turn: int) -> Picture:
    """One of eight orientations: ``turn % 4`` quarter turns, from 4 on mirrored as well.

    Latents of a turned picture are not the turned latents, hence they are stored.
    """
    rotated = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(rotated[:, ::-1] if turn >= 4 else rotated)
