"""The decoded tiles that were used last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray


class TileCache:
    """Least recently used pictures leave first.

    Args:
        limit: bytes of pixels to keep.
    """

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: Hashable) -> NDArray[np.uint8] | None:
        """The picture, or None; it becomes the most recently used."""
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
        return tile

    def put(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        """Keep ``tile``, and drop others while the limit is exceeded."""
        self._tiles[key] = tile
        self.bytes += tile.nbytes
        while self.bytes > self._limit:
            _, dropped = self._tiles.popitem(last=False)
            self.bytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._tiles.clear()
        self.bytes = 0
