"""All real tiles of a run, numbered through: for the checks and for the private report."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy import NearCopyIndex, NearCopySettings
from pixcell_share.slides import Slide, SlideRecord, open_slide, read_coords, read_features
from site_agent.models import one_vector
from site_agent.run_folder import RunFolder, SlideState

_OPEN_SLIDES = 12  # opening one takes as long as reading fifty tiles
_KEPT_TILES = 512  # the controls ask for the same ones again; 100 MB at 256 px
_ROWS = 4096


class RealTiles:
    """Real tiles of the used slides, in the order of the slides and of each grid."""

    def __init__(
        self, run: RunFolder, records: Sequence[SlideRecord], states: Sequence[SlideState]
    ) -> None:
        self._run = run
        self.used = [pair for pair in zip(records, states, strict=True) if pair[1].used]
        self._records = [record for record, _ in self.used]
        counts = [state.tiles for _, state in self.used]
        self.starts = [0, *np.cumsum(counts).tolist()]
        self._tiles: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._open: OrderedDict[str, tuple[Slide, NDArray[np.int64]]] = OrderedDict()

    def __len__(self) -> int:
        """Real tiles that have an embedding."""
        return int(self.starts[-1])

    def place(self, index: int) -> tuple[SlideRecord, int]:
        """The slide that real tile ``index`` lies on, and its position in the slide's grid."""
        slide = bisect_right(self.starts, index) - 1
        return self._records[slide], index - self.starts[slide]

    def index(self, slide_id: str, position: int) -> int:
        """The number of the real tile at ``position`` in a slide's grid."""
        for record, start in zip(self._records, self.starts, strict=False):
            if record.slide_id == slide_id:
                return int(start) + position
        raise KeyError(slide_id)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Pixels (H, W, 3) of a real tile, read from its slide; the latest are kept."""
        if index not in self._tiles:
            if len(self._tiles) == _KEPT_TILES:
                self._tiles.popitem(last=False)
            self._tiles[index] = self._read(index)
        self._tiles.move_to_end(index)
        return self._tiles[index]

    def _read(self, index: int) -> NDArray[np.uint8]:
        record, position = self.place(index)
        slide, coords = self._slide(record)
        x, y = coords[position]
        tiling = self._run.settings.tiling
        return slide.region(int(x), int(y), tiling.tile_px, tiling.mpp)

    def _slide(self, record: SlideRecord) -> tuple[Slide, NDArray[np.int64]]:
        if record.slide_id not in self._open:
            if len(self._open) == _OPEN_SLIDES:
                self._open.popitem(last=False)[1][0].close()
            grid = read_coords(self._run.coords(record.slide_id))
            self._open[record.slide_id] = open_slide(record), grid.coords
        self._open.move_to_end(record.slide_id)
        return self._open[record.slide_id]

    def close(self) -> None:
        """Close the slides that are open."""
        while self._open:
            self._open.popitem()[1][0].close()

    def near_copy_index(self, settings: NearCopySettings) -> NearCopyIndex:
        """An index of all fingerprints and embeddings, loaded a few thousand rows at a time."""
        index = NearCopyIndex(settings)
        for record in self._records:
            prints = np.load(self._run.fingerprints(record.slide_id), mmap_mode="r")
            with read_features(self._run.features(record.slide_id)) as features:
                for start in range(0, len(prints), _ROWS):
                    rows = slice(start, min(start + _ROWS, len(prints)))
                    embeddings = one_vector(features[rows])
                    index.add(np.asarray(prints[rows], np.float32), embeddings)
        return index
