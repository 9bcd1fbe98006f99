"""Whether a shard that this program wrote holds anything beside its tiles.

`_shard_check` asks of a stranger's shard that nothing in it does harm. Here the question is what
else is in our own: its structures are compared, byte for byte, with those of an empty shard of the
same description. So a forgotten attribute, a time stamp, or old data in a gap shows, whatever
HDF5 calls it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles._shards import LABEL_BYTES, empty_shard
from pixcell_share.bundles.cohort import Cohort
from pixcell_share.bundles.forbidden import Finding

_ATTRIBUTES = {"/": set[str](), "images": {"mpp"}, "labels": {"classes"}}


def inspect_shard_structure(path: Path, cohort: Cohort) -> Iterator[Finding]:
    """What a shard holds beside the tiles and labels of ``cohort``.

    Raises:
        OSError: it is not HDF5.
    """
    with h5py.File(path, "r") as file:
        extra = list(_extra_names(path.name, file))
        count = len(file["labels"]) if "labels" in file else 0
    yield from extra
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "empty.h5"
        images_at, labels_at = empty_shard(model, cohort, count)
        data = (
            (images_at, count * 3 * cohort.tile_px**2),
            (labels_at, count * LABEL_BYTES),
        )
        if (offset := _first_difference(path, model, data)) is not None:
            what = f"bytes that belong to no tile, from byte {offset} on"
            yield Finding("hdf5_bytes", path.name, what)


def read_labels(path: Path) -> NDArray[np.int64]:
    """(N,) label of each tile of a shard."""
    with h5py.File(path, "r") as file:
        labels: NDArray[np.int64] = file["labels"][:]
    return labels


def _extra_names(name: str, file: h5py.File) -> Iterator[Finding]:
    for found in sorted(set(file) - {"images", "labels"}):
        yield Finding("hdf5_attribute", name, "a dataset beside images and labels", found)
    for place, allowed in _ATTRIBUTES.items():
        held = set(file[place].attrs) if place in file else set()
        for attribute in sorted(held - allowed):
            where = "the file" if place == "/" else place
            private = f"{attribute} = {file[place].attrs[attribute]!r}"
            yield Finding("hdf5_attribute", name, f"an attribute of {where}", private[:200])


def _first_difference(path: Path, model: Path, data: tuple[tuple[int, int], ...]) -> int | None:
    """The first byte outside ``data`` (offset and length of each array) that is not the model's."""
    size, expected = path.stat().st_size, model.stat().st_size
    with path.open("rb") as one, model.open("rb") as other:
        for start, end in _gaps(data, max(size, expected)):
            held, wanted = (np.frombuffer(_read(f, start, end), np.uint8) for f in (one, other))
            shared = min(len(held), len(wanted))
            if len(different := np.flatnonzero(held[:shared] != wanted[:shared])):
                return start + int(different[0])
            if len(held) != len(wanted):
                return start + shared
    return None


def _gaps(data: tuple[tuple[int, int], ...], size: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, length in sorted(data):
        yield at, start
        at = start + length
    yield at, size


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(max(0, end - start))
