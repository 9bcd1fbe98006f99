"""Write tiles to HDF5 shards that plain h5py reads, one tile in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pixcell_share.bundles._codec import shard_name
from pixcell_share.bundles.cohort import Cohort, Shard

Tile = tuple[npt.NDArray[np.uint8], int]
LABEL_BYTES = 8
SHARD_OVERHEAD = 64 * 1024
"""More than HDF5's own structures and the class names need beside the tiles and labels."""


def plan_shards(count: int, tile_px: int, shard_bytes: int) -> list[Shard]:
    """Split ``count`` tiles into shards of at most ``shard_bytes``, all full but the last."""
    tile_bytes = 3 * tile_px**2 + LABEL_BYTES
    each = max(1, (shard_bytes - SHARD_OVERHEAD) // tile_bytes)
    starts = range(0, count, each)
    return [Shard(shard_name(i), min(each, count - start)) for i, start in enumerate(starts)]


def write_shards(
    folder: Path, cohort: Cohort, shards: Iterable[Shard], tiles: Iterable[Tile]
) -> Iterator[Tile]:
    """Write every tile to its shard and yield it again, for whoever counts or draws.

    Args:
        folder: where the shards go.
        cohort: the size of a tile and the class names.
        shards: from `plan_shards`.
        tiles: uint8 ``(tile_px, tile_px, 3)`` RGB and its label; exactly as many as planned.

    Raises:
        ValueError: a tile has another shape or type, a label names no class, or the number of
            tiles is not the planned one.
    """
    source = iter(tiles)
    for shard in shards:
        with h5py.File(folder / shard.name, "w", libver=("earliest", "v108")) as file:
            images, labels = _create(file, cohort, shard.count)
            written = 0
            for image, label in islice(source, shard.count):
                _check_tile(image, label, cohort)
                images[written] = image
                labels[written] = label
                written += 1
                yield image, label
        if written != shard.count:
            raise ValueError(f"{shard.name} was planned with {shard.count} tiles, not {written}")
    if next(source, None) is not None:
        raise ValueError("there are more tiles than the planned count")


def _create(file: h5py.File, cohort: Cohort, count: int) -> tuple[Any, Any]:
    """The two datasets: contiguous, so that no filter, chunk index or zlib version is in them."""
    px = cohort.tile_px
    images = file.create_dataset(
        "images", (count, px, px, 3), dtype="u1", track_times=False, fill_time="never"
    )
    images.attrs.create("mpp", float(cohort.mpp), dtype="<f8")
    labels = file.create_dataset(
        "labels", (count,), dtype="<i8", track_times=False, fill_time="never"
    )
    names = [name.encode() for name in cohort.classes]
    text = h5py.string_dtype("utf-8", max(map(len, names)))
    labels.attrs.create("classes", np.array(names, dtype=text), dtype=text)
    return images, labels


def _check_tile(image: npt.NDArray[np.uint8], label: int, cohort: Cohort) -> None:
    expected = (cohort.tile_px, cohort.tile_px, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise ValueError(f"a tile is {image.dtype} {image.shape}, and must be uint8 {expected}")
    if not 0 <= label < len(cohort.classes):
        raise ValueError(f"the label {label} names none of the {len(cohort.classes)} classes")
