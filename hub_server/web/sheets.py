"""Pictures of a cohort's tiles: one for each class, drawn by the hub from its own form of them.

No byte of a stranger's picture file is ever shown. A sheet is made when somebody first looks, kept
beside the arrays, and deleted with them when the cohort is withdrawn.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hub_server.intake import open_shards
from hub_server.intake.canonical import folder_of
from hub_server.registry import Cohort, CohortState, Registry, cohorts
from hub_server.storage import Storage
from hub_server.web.cohort_view import MOST_SHEETS
from pixcell_share.errors import NotFoundError

COLUMNS, ROWS = 6, 2
TILE_PX = 128
GAP_PX = 4
_SHARDS = 8
"""Looked through for tiles, at most: of a store elsewhere each is copied first."""
_making = threading.Lock()


def sheet(registry: Registry, storage: Storage, cohort: Cohort, label: int) -> bytes:
    """Up to twelve tiles of one class, as a PNG.

    Args:
        registry: of the hub.
        storage: of the hub.
        cohort: an accepted one.
        label: place of the class in the manifest.

    Raises:
        NotFoundError: the cohort has no such class, or no tiles (any more).
    """
    classes = len(cohort.counts or {})
    if cohort.canonical is None or not 0 <= label < min(classes, MOST_SHEETS):
        raise NotFoundError("there are no such tiles", "see the cohort's page")
    key = _key(cohort, label)
    with _making:
        if not storage.exists(key):
            _make(registry, storage, cohort, min(classes, MOST_SHEETS))
    with storage.get(key) as stream:
        return stream.read()


def _make(registry: Registry, storage: Storage, cohort: Cohort, classes: int) -> None:
    for label, tiles in enumerate(_chosen(storage, cohort, classes)):
        storage.put(_key(cohort, label), _drawn(tiles))
    with registry.reading() as session:
        state = cohorts.find_cohort(session, cohort.id).state
    if state is not CohortState.ACCEPTED:  # withdrawn meanwhile: nothing of it may stay
        for label in range(classes):
            storage.delete(_key(cohort, label))


def _chosen(storage: Storage, cohort: Cohort, classes: int) -> list[list[NDArray[np.uint8]]]:
    """Up to twelve tiles (H, W, 3) of each class, spread over a shard."""
    chosen: list[list[NDArray[np.uint8]]] = [[] for _ in range(classes)]
    assert cohort.canonical is not None
    for shard in islice(open_shards(storage, cohort.canonical), _SHARDS):
        labels = np.asarray(shard.labels)
        for label, tiles in enumerate(chosen):
            places = np.flatnonzero(labels == label)
            tiles.extend(np.asarray(shard.images[at]) for at in _spread(places, len(tiles)))
        if all(len(tiles) == COLUMNS * ROWS for tiles in chosen):
            break
    return chosen


def _spread(places: NDArray[np.intp], have: int) -> Iterator[int]:
    """As many of ``places`` as are missing, far apart."""
    missing = min(COLUMNS * ROWS - have, len(places))
    return (int(places[at * len(places) // missing]) for at in range(missing))


def _drawn(tiles: list[NDArray[np.uint8]]) -> bytes:
    """The sheet as a PNG; its ground is clear, so that it suits light and dark."""
    rows = max(1, -(-len(tiles) // COLUMNS))
    pitch = TILE_PX + GAP_PX
    drawn = Image.new("RGBA", (COLUMNS * pitch - GAP_PX, rows * pitch - GAP_PX))
    for place, tile in enumerate(tiles):
        picture = Image.fromarray(tile).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
        drawn.paste(picture, (place % COLUMNS * pitch, place // COLUMNS * pitch))
    content = io.BytesIO()
    drawn.save(content, "PNG", optimize=True)
    return content.getvalue()


def _key(cohort: Cohort, label: int) -> str:
    return f"{folder_of(cohort.id)}/sheet-{label:05d}.png"
