"""Second step: each real tile becomes an embedding and a pixel fingerprint, read once for both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import PixcellError, SlideError
from pixcell_share.files import atomic_path
from pixcell_share.prefetch import prefetch
from pixcell_share.privacy import fingerprint
from pixcell_share.privacy.fingerprints import COARSE_PX
from pixcell_share.progress import Advance, View
from pixcell_share.slides import (
    SlideRecord,
    TileGrid,
    open_slide,
    read_coords,
    read_tiles,
    write_features,
)
from site_agent.clock import Clock
from site_agent.models import Models
from site_agent.run_folder import RunFolder, SlideState
from site_agent.steps.given import copy_features
from site_agent.steps.tiling import unexpected

T = TypeVar("T")
_BATCH = 32  # tiles; fixed, so that the same run forms the same batches everywhere
_FINGERPRINT_TYPE = "<f2"
_AHEAD = 64  # tiles; at 256 px about 13 MB


def embed_slides(
    run: RunFolder,
    records: Sequence[SlideRecord],
    states: Sequence[SlideState],
    models: Models,
    view: View,
    clock: Clock,
) -> list[SlideState]:
    """Write features and fingerprints of every used slide.

    A slide whose pixels cannot be read to the end is left out here.
    """
    done = sum(state.tiles for state in states if state.used and is_embedded(run, state))
    total = sum(state.tiles for state in states if state.used)
    after = list(states)
    with view.stage("embed", total, "tiles", done) as advance:
        for position, (record, state) in enumerate(zip(records, states, strict=True)):
            if not state.used or is_embedded(run, state):
                continue
            try:
                _embed(run, record, models, clock, advance)
            except SlideError as error:
                after[position] = _leave_out(run, state, error, view)
            except PixcellError:
                raise
            except OSError as error:
                reason = unexpected(run, record.slide_id, error)
                after[position] = _leave_out(run, state, reason, view)
    return after


def is_embedded(run: RunFolder, state: SlideState) -> bool:
    """Whether a slide's features and fingerprints are there."""
    return run.features(state.slide_id).exists() and run.fingerprints(state.slide_id).exists()


def _leave_out(run: RunFolder, state: SlideState, error: SlideError, view: View) -> SlideState:
    view.say(f"left out {state.slide_id}: {error.cause}")
    run.forget(state.slide_id)
    return run.keep(state.left_out(error))


def _embed(
    run: RunFolder, record: SlideRecord, models: Models, clock: Clock, advance: Advance
) -> None:
    grid = read_coords(run.coords(record.slide_id))
    with open_slide(record) as slide:
        tiles = prefetch(clock.iterate("read", read_tiles(slide, grid)), _AHEAD)
        _write_stores(run, record.slide_id, grid, tiles, models, clock, advance)


def _write_stores(
    run: RunFolder,
    slide_id: str,
    grid: TileGrid,
    tiles: Iterator[NDArray[np.uint8]],
    models: Models,
    clock: Clock,
    advance: Advance,
) -> None:
    with atomic_path(run.fingerprints(slide_id)) as part, part.open("wb") as prints:
        _start_fingerprints(prints, len(grid.coords))
        read = _fingerprinted(tiles, prints, clock, advance)
        if run.settings.features is None:
            blocks = (_embedding(models, images, clock) for images in read)
            write_features(run.features(slide_id), grid, blocks, models.encoder.name)
        else:
            copy_features(run.settings.features, run.features(slide_id), slide_id, grid, models)
            deque(read, maxlen=0)


def _start_fingerprints(stream: BinaryIO, count: int) -> None:
    """Write the head of an ``.npy`` file.

    The rows follow as plain writes: a memory map on a full disk ends the process by a signal,
    where a write says that the disk is full.
    """
    shape = (count, COARSE_PX**2)
    head = {"descr": _FINGERPRINT_TYPE, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, head)


def _fingerprinted(
    tiles: Iterable[NDArray[np.uint8]], prints: BinaryIO, clock: Clock, advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    """Batches (B, H, W, 3) of tiles, after their fingerprints were written."""
    for batch in _batches(tiles, _BATCH):
        images = np.stack(batch)
        with clock.measure("fingerprint", len(images)):
            prints.write(fingerprint(images).astype(_FINGERPRINT_TYPE).tobytes())
        yield images
        advance(len(images))


def _embedding(models: Models, images: NDArray[np.uint8], clock: Clock) -> NDArray[np.float32]:
    with clock.measure("embed", len(images)):
        return models.embed(images)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
