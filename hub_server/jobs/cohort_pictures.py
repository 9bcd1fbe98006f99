"""The tiles of an accepted cohort as pictures, for comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub_server.intake import files_of, open_shards
from hub_server.storage import Storage


class CohortPictures:
    """Tiles in the order of the bundle; see `pixcell_share.evaluation.Pictures`.

    Args:
        storage: of the hub.
        canonical: from the cohort's row.

    Raises:
        NotFoundError: a file is gone.
        StorageError: a file has another size, or the storage does not answer.
    """

    def __init__(self, storage: Storage, canonical: Mapping[str, Any]) -> None:
        self._shards = [shard.images for shard in open_shards(storage, canonical)]
        self._ends = np.cumsum([len(images) for images in self._shards])
        self._digests = [f.sha256 for f in files_of(canonical) if "/images-" in f.key]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: range) -> Iterator[NDArray[np.uint8]]:
        """Tiles uint8 (H, W, 3)."""
        for row in rows:
            shard = int(np.searchsorted(self._ends, row, side="right"))
            begin = int(self._ends[shard - 1]) if shard else 0
            yield np.array(self._shards[shard][row - begin])

    def digests(self) -> Iterator[str]:
        """SHA-256 of each canonical file."""
        yield from self._digests
