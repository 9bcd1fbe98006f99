"""Write tiles to HDF5 shards that plain h5py reads, one tile in memory at a time.

h5py is imported where a file is written, not with the module: a hub imports this package to check
bundles, and the library that parses HDF5 is not to be in its process at all.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pixcell_share.bundles._codec import shard_name
from pixcell_share.bundles.cohort import Cohort, Shard

if TYPE_CHECKING:
    import h5py

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
        OSError: the disk is full.
        ValueError: a tile has another shape or type, a label names no class, or the number of
            tiles is not the planned one.
    """
    source = iter(tiles)
    for shard in shards:
        path = folder / shard.name
        images_at, labels_at = _lay_out(path, cohort, shard.count)
        labels = array("q")
        with path.open("rb+") as file:
            file.seek(images_at)
            for image, label in islice(source, shard.count):
                _check_tile(image, label, cohort)
                file.write(np.ascontiguousarray(image).data)
                labels.append(label)
                yield image, label
            file.seek(labels_at)
            file.write(np.asarray(labels, dtype="<i8").data)
        if len(labels) != shard.count:
            raise ValueError(
                f"{shard.name} was planned with {shard.count} tiles, not {len(labels)}"
            )
    if next(source, None) is not None:
        raise ValueError("there are more tiles than the planned count")


def _lay_out(path: Path, cohort: Cohort, count: int) -> tuple[int, int]:
    """Make the HDF5 file without its data; the offsets of ``images`` and ``labels`` in it.

    HDF5 2.0 crashes the process when the disk fills up under it. So the room is reserved before
    HDF5 sees the file, and the data then goes to its place by plain writes.
    """
    _reserve(path, SHARD_OVERHEAD + count * (3 * cohort.tile_px**2 + LABEL_BYTES))
    offsets = empty_shard(path, cohort, count)
    _reserve(path, path.stat().st_size)
    return offsets


def empty_shard(path: Path, cohort: Cohort, count: int) -> tuple[int, int]:
    """Everything of a shard but its data, whose place is left as a hole; see `_lay_out`."""
    import h5py

    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        images, labels = _create(file, cohort, count)
        return images.id.get_offset(), labels.id.get_offset()


def _reserve(path: Path, size: int) -> None:
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _create(file: h5py.File, cohort: Cohort, count: int) -> tuple[h5py.Dataset, h5py.Dataset]:
    """The two datasets: contiguous, so that no filter, chunk index or zlib version is in them."""
    import h5py

    px = cohort.tile_px
    images = _dataset(file, "images", (count, px, px, 3), "u1")
    images.attrs.create("mpp", float(cohort.mpp), dtype="<f8")
    labels = _dataset(file, "labels", (count,), "<i8")
    names = [name.encode() for name in cohort.classes]
    text = h5py.string_dtype("utf-8", max(map(len, names)))
    labels.attrs.create("classes", np.array(names, dtype=text), dtype=text)
    return images, labels


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
    from h5py import h5d, h5p

    early = h5p.create(h5p.DATASET_CREATE)
    early.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    return file.create_dataset(
        name, shape, dtype=dtype, track_times=False, fill_time="never", dcpl=early
    )


def _check_tile(image: npt.NDArray[np.uint8], label: int, cohort: Cohort) -> None:
    expected = (cohort.tile_px, cohort.tile_px, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise ValueError(f"a tile is {image.dtype} {image.shape}, and must be uint8 {expected}")
    if not 0 <= label < len(cohort.classes):
        raise ValueError(f"the label {label} names none of the {len(cohort.classes)} classes")
