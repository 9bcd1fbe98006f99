"""Read one shard that a stranger wrote, and say whether it is plain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5s, h5t, h5z

MAX_CHUNK_BYTES = 16 << 20
MAX_RATIO = 64
"""Logical to stored bytes. Tissue deflates to about half; a bomb reaches a thousand."""
SLACK_BYTES = 64 << 10
"""HDF5's own structures in a file, beside the data and an index entry per chunk."""
INDEX_BYTES = 128
BLOCK_BYTES = 16 << 20
_ALLOWED_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}


class RefusalError(Exception):
    """What is wrong with the shard, in one clause without a word that the file chose.

    ``fault`` is a code of `pixcell_share.bundles.Fault`, which this process does not import.
    """

    def __init__(self, reason: str, fault: str) -> None:
        super().__init__(reason)
        self.fault = fault


@dataclass(frozen=True)
class OpenShard:
    """The two datasets of a shard whose structure was found plain."""

    images: h5py.Dataset
    labels: h5py.Dataset

    @property
    def is_chunked(self) -> bool:
        """Whether the images have to be unpacked; if not, they lie in the file as they are."""
        return self.images.chunks is not None

    def blocks(self) -> Iterator[np.ndarray]:
        """The images in order, as uint8 (n, px, px, 3); each block replaces the one before."""
        count, tile_bytes = len(self.images), self.images.nbytes // len(self.images)
        chunk = self.images.chunks[0] if self.is_chunked else 1
        rows = min(count, max(1, BLOCK_BYTES // (tile_bytes * chunk)) * chunk)
        block = np.empty((rows, *self.images.shape[1:]), np.uint8)
        for start in range(0, count, rows):
            part = block[: min(rows, count - start)]
            self.images.read_direct(part, np.s_[start : start + len(part)])
            yield part

    def read_labels(self, classes: int) -> tuple[list[int], np.ndarray]:
        """Tiles of each class, and int64 (count,) the label of each tile."""
        labels = self.labels[:]
        known = labels.min() >= 0 and labels.max() < classes
        _require(known, "has a label that names no class", "label_unknown")
        return [int(count) for count in np.bincount(labels, minlength=classes)], labels


@contextmanager
def opened_shard(descriptor: int, expected: dict[str, Any]) -> Iterator[OpenShard]:
    """The shard, if everything in it is as it must be.

    Args:
        descriptor: the open file.
        expected: ``count``, ``tile_px``, ``mpp`` and ``classes`` of the manifest.

    Raises:
        RefusalError: something in it is not.
        OSError: or another error of h5py: it is no sound HDF5.
    """
    size = os.fstat(descriptor).st_size
    raw = os.fdopen(descriptor, "rb")
    _require(raw.read(8) == b"\x89HDF\r\n\x1a\n", "does not begin as an HDF5 file", "hdf5_not_hdf5")
    with h5py.File(raw, "r") as file:
        images, labels = _open_datasets(file)
        count, px = expected["count"], expected["tile_px"]
        stored = _check_dataset("images", images, h5t.STD_U8LE, (count, px, px, 3), size)
        stored += _check_dataset("labels", labels, h5t.STD_I64LE, (count,), size)
        nothing_else = size <= stored + SLACK_BYTES
        _require(nothing_else, "holds more than its two datasets", "hdf5_hidden_bytes")
        _check_mpp(images.id, expected["mpp"])
        _check_classes(labels.id, expected["classes"])
        yield OpenShard(images, labels)


def _open_datasets(file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset]:
    """The two datasets, if the root holds nothing else and both are plain hard links."""
    _require(len(file) == 2 and set(file) == {"images", "labels"}, _NAMES, "hdf5_other_objects")
    bare = h5a.get_num_attrs(file.id) == 0
    _require(bare, "has an attribute on the file", "hdf5_attribute_wrong")
    for name in ("images", "labels"):
        kind = file.id.links.get_info(name.encode()).type
        _require(kind == h5py.h5l.TYPE_HARD, f"{name} is a link, not the data itself", "hdf5_link")
        is_dataset = h5g.get_objinfo(file.id, name.encode()).type == h5g.DATASET
        _require(is_dataset, _NAMES, "hdf5_other_objects")
    return file["images"], file["labels"]


_NAMES = "does not hold exactly the datasets images and labels"
_ATTRIBUTE = "hdf5_attribute_wrong"


def _check_dataset(
    name: str, dataset: h5py.Dataset, kind: h5t.TypeID, shape: tuple[int, ...], size: int
) -> int:
    """Bytes in the file that the dataset accounts for."""
    found, space, settings = (
        dataset.id.get_type(),
        dataset.id.get_space(),
        dataset.id.get_create_plist(),
    )
    plain = found.equal(kind) and not found.committed()
    _require(plain, f"{name} has another data type", "hdf5_type_wrong")
    simple = space.get_simple_extent_type() == h5s.SIMPLE
    _require(simple, f"{name} is not an array", "hdf5_shape_wrong")
    stated = dataset.shape == shape
    _require(stated, f"{name} is not of the shape that the manifest states", "hdf5_shape_wrong")
    _require(dataset.maxshape == shape, f"{name} can grow", "hdf5_can_grow")
    own = settings.get_external_count() == 0
    _require(own, f"{name} keeps its data in another file", "hdf5_external_storage")
    layout = settings.get_layout()
    known = layout in (h5d.CONTIGUOUS, h5d.CHUNKED)
    _require(known, f"{name} is virtual or compact", "hdf5_virtual")
    logical, stored = dataset.nbytes, dataset.id.get_storage_size()
    _require(stored <= size, f"{name} is larger than the file", "hdf5_not_all_there")
    if layout == h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        whole = stored == logical and offset is not None and offset + stored <= size
        _require(whole, f"{name} is not all there", "hdf5_not_all_there")
        return int(stored)
    return int(stored) + _check_chunks(name, dataset, settings, logical, stored)


def _check_chunks(
    name: str, dataset: h5py.Dataset, settings: Any, logical: int, stored: int
) -> int:
    """Bytes that the index of the chunks may take."""
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    allowed = set(filters) <= _ALLOWED_FILTERS
    _require(allowed, f"{name} needs a filter that is not allowed", "hdf5_filter_not_allowed")
    once = len(set(filters)) == len(filters)
    _require(once, f"{name} applies a filter twice", "hdf5_filter_not_allowed")
    chunk = settings.get_chunk()
    chunk_bytes = int(np.prod(chunk, dtype=object)) * dataset.dtype.itemsize
    small = chunk_bytes <= MAX_CHUNK_BYTES
    _require(small, f"{name} has chunks of more than 16 MiB", "hdf5_chunks_not_allowed")
    whole = tuple(chunk[1:]) == dataset.shape[1:]
    _require(whole, f"{name} has chunks that cut through a tile", "hdf5_chunks_not_allowed")
    chunks = -(-dataset.shape[0] // chunk[0])
    every = dataset.id.get_num_chunks() == chunks
    _require(every, f"{name} is not all there", "hdf5_not_all_there")
    too_far = f"{name} unpacks to more than {MAX_RATIO} times its size"
    _require(logical <= MAX_RATIO * stored, too_far, "hdf5_unpacks_too_far")
    return INDEX_BYTES * int(chunks)


def _check_mpp(images: h5d.DatasetID, mpp: float) -> None:
    attribute = _only_attribute(images, "images", b"mpp")
    plain = attribute.get_type().equal(h5t.IEEE_F64LE) and attribute.shape == ()
    _require(plain, "the attribute mpp of images is not one float64", _ATTRIBUTE)
    value = np.empty((), dtype="<f8")
    attribute.read(value)
    _require(float(value) == mpp, "the attribute mpp of images is not the manifest's", _ATTRIBUTE)


def _check_classes(labels: h5d.DatasetID, classes: list[str]) -> None:
    attribute = _only_attribute(labels, "labels", b"classes")
    kind, names = attribute.get_type(), [name.encode() for name in classes]
    fixed = isinstance(kind, h5t.TypeStringID) and not kind.is_variable_str()
    _require(fixed, "the attribute classes of labels is not of fixed-length text", _ATTRIBUTE)
    same_size = attribute.shape == (len(names),) and kind.get_size() == max(map(len, names))
    otherwise = "the attribute classes of labels is not the manifest's"
    _require(same_size, otherwise, _ATTRIBUTE)
    values = np.empty(attribute.shape, dtype=f"S{kind.get_size()}")
    attribute.read(values, mtype=kind)  # as stored: h5py's own dtype would import a codec
    _require(values.tolist() == names, otherwise, _ATTRIBUTE)


def _only_attribute(dataset: h5d.DatasetID, where: str, name: bytes) -> h5a.AttrID:
    only = h5a.get_num_attrs(dataset) == 1 and h5a.exists(dataset, name)
    _require(only, f"{where} does not have exactly the attribute {name.decode()}", _ATTRIBUTE)
    return h5a.open(dataset, name)


def _require(holds: bool, otherwise: str, fault: str) -> None:
    if not holds:
        raise RefusalError(otherwise, fault)
