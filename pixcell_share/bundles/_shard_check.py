"""The confined process: look at one shard that a stranger wrote, and say whether it is plain.

Run as a script by `_confined.py`, never imported, and without anything of pixcell_share: the
fewer lines run here, the fewer can be misused. By now the file's signature and digest hold,
which says who wrote it, not that HDF5 can read it unharmed. So this process first gives up
memory, time, files and network, then reads the shard from a descriptor that it was handed.

Standard input: ``{"count", "tile_px", "mpp", "classes"}``. Standard output, one of
``{"class_counts": [...]}`` and ``{"reason": "..."}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
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
BLOCK_BYTES = 64 << 20
MEMORY_BYTES = 1 << 30
"""Address space: Python, numpy and HDF5 take about 0.1 GiB, two blocks of tiles as much."""
_ALLOWED_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_ASK_VERSION, _LANDLOCK_ALL_FILES, _LANDLOCK_ALL_TCP = 1, (1 << 13) - 1, 3
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class RefusalError(Exception):
    """What is wrong with the shard, in one clause without a word that the file chose."""


def main() -> None:
    """Confine, check, answer."""
    descriptor, cpu_seconds = int(sys.argv[1]), int(sys.argv[2])
    expected = json.load(sys.stdin)
    confine(cpu_seconds)
    try:
        answer: dict[str, Any] = {"class_counts": check_shard(descriptor, expected)}
    except RefusalError as refusal:
        answer = {"reason": str(refusal)}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError):
        answer = {"reason": "cannot be read as HDF5: it is damaged or truncated"}
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # HDF5's closing code need not run on what may be damaged


def confine(cpu_seconds: int) -> None:
    """Give up what reading bytes does not need. Limits are a must, the rest as the kernel can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 64 << 10),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_paths_and_ports(libc)


def _forbid_paths_and_ports(libc: ctypes.CDLL) -> None:
    """Landlock with no rule at all: no path (Linux 5.13), no TCP port (6.7) can be opened."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_ASK_VERSION)
    rights = [_LANDLOCK_ALL_FILES] + ([_LANDLOCK_ALL_TCP] if version >= 4 else [])
    handled = (ctypes.c_uint64 * len(rights))(*rights)
    ruleset = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.sizeof(handled), 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)


def check_shard(descriptor: int, expected: dict[str, Any]) -> list[int]:
    """Tiles of each class in the shard, if everything in it is as it must be."""
    size = os.fstat(descriptor).st_size
    raw = os.fdopen(descriptor, "rb")
    _require(raw.read(8) == b"\x89HDF\r\n\x1a\n", "does not begin as an HDF5 file")
    with h5py.File(raw, "r") as file:
        images, labels = _open_datasets(file)
        count, px = expected["count"], expected["tile_px"]
        stored = _check_dataset("images", images, h5t.STD_U8LE, (count, px, px, 3), size)
        stored += _check_dataset("labels", labels, h5t.STD_I64LE, (count,), size)
        _require(size <= stored + SLACK_BYTES, "holds more than its two datasets")
        _check_mpp(images.id, expected["mpp"])
        _check_classes(labels.id, expected["classes"])
        if images.chunks is not None:
            _decode_all(images)
        return _count_labels(labels, len(expected["classes"]))


def _open_datasets(file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset]:
    """The two datasets, if the root holds nothing else and both are plain hard links."""
    _require(len(file) == 2 and set(file) == {"images", "labels"}, _NAMES)
    _require(h5a.get_num_attrs(file.id) == 0, "has an attribute on the file")
    for name in ("images", "labels"):
        kind = file.id.links.get_info(name.encode()).type
        _require(kind == h5py.h5l.TYPE_HARD, f"{name} is a link, not the data itself")
        _require(h5g.get_objinfo(file.id, name.encode()).type == h5g.DATASET, _NAMES)
    return file["images"], file["labels"]


_NAMES = "does not hold exactly the datasets images and labels"


def _check_dataset(
    name: str, dataset: h5py.Dataset, kind: h5t.TypeID, shape: tuple[int, ...], size: int
) -> int:
    """Bytes in the file that the dataset accounts for."""
    found, space, settings = (
        dataset.id.get_type(),
        dataset.id.get_space(),
        dataset.id.get_create_plist(),
    )
    _require(found.equal(kind) and not found.committed(), f"{name} has another data type")
    _require(space.get_simple_extent_type() == h5s.SIMPLE, f"{name} is not an array")
    _require(dataset.shape == shape, f"{name} is not of the shape that the manifest states")
    _require(dataset.maxshape == shape, f"{name} can grow")
    _require(settings.get_external_count() == 0, f"{name} keeps its data in another file")
    layout = settings.get_layout()
    _require(layout in (h5d.CONTIGUOUS, h5d.CHUNKED), f"{name} is virtual or compact")
    logical, stored = dataset.nbytes, dataset.id.get_storage_size()
    _require(stored <= size, f"{name} is larger than the file")
    if layout == h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        whole = stored == logical and offset is not None and offset + stored <= size
        _require(whole, f"{name} is not all there")
        return int(stored)
    return int(stored) + _check_chunks(name, dataset, settings, logical, stored)


def _check_chunks(
    name: str, dataset: h5py.Dataset, settings: Any, logical: int, stored: int
) -> int:
    """Bytes that the index of the chunks may take."""
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    _require(set(filters) <= _ALLOWED_FILTERS, f"{name} needs a filter that is not allowed")
    _require(len(set(filters)) == len(filters), f"{name} applies a filter twice")
    chunk = settings.get_chunk()
    chunk_bytes = int(np.prod(chunk, dtype=object)) * dataset.dtype.itemsize
    _require(chunk_bytes <= MAX_CHUNK_BYTES, f"{name} has chunks of more than 16 MiB")
    _require(tuple(chunk[1:]) == dataset.shape[1:], f"{name} has chunks that cut through a tile")
    chunks = -(-dataset.shape[0] // chunk[0])
    _require(dataset.id.get_num_chunks() == chunks, f"{name} is not all there")
    _require(
        logical <= MAX_RATIO * stored, f"{name} unpacks to more than {MAX_RATIO} times its size"
    )
    return INDEX_BYTES * int(chunks)


def _check_mpp(images: h5d.DatasetID, mpp: float) -> None:
    attribute = _only_attribute(images, "images", b"mpp")
    plain = attribute.get_type().equal(h5t.IEEE_F64LE) and attribute.shape == ()
    _require(plain, "the attribute mpp of images is not one float64")
    value = np.empty((), dtype="<f8")
    attribute.read(value)
    _require(float(value) == mpp, "the attribute mpp of images is not the manifest's")


def _check_classes(labels: h5d.DatasetID, classes: list[str]) -> None:
    attribute = _only_attribute(labels, "labels", b"classes")
    kind, names = attribute.get_type(), [name.encode() for name in classes]
    fixed = isinstance(kind, h5t.TypeStringID) and not kind.is_variable_str()
    _require(fixed, "the attribute classes of labels is not of fixed-length text")
    same_size = attribute.shape == (len(names),) and kind.get_size() == max(map(len, names))
    _require(same_size, "the attribute classes of labels is not the manifest's")
    values = np.empty(attribute.shape, dtype=f"S{kind.get_size()}")
    attribute.read(values, mtype=kind)  # as stored: h5py's own dtype would import a codec
    _require(values.tolist() == names, "the attribute classes of labels is not the manifest's")


def _only_attribute(dataset: h5d.DatasetID, where: str, name: bytes) -> h5a.AttrID:
    only = h5a.get_num_attrs(dataset) == 1 and h5a.exists(dataset, name)
    _require(only, f"{where} does not have exactly the attribute {name.decode()}")
    return h5a.open(dataset, name)


def _decode_all(images: h5py.Dataset) -> None:
    """Unpack every chunk once: a broken one shows here, not months later in training."""
    tile_bytes = images.nbytes // images.shape[0]
    rows = max(1, BLOCK_BYTES // (tile_bytes * images.chunks[0])) * images.chunks[0]
    for start in range(0, images.shape[0], rows):
        images[start : start + rows]


def _count_labels(labels: h5py.Dataset, classes: int) -> list[int]:
    counts = np.zeros(classes, dtype=np.int64)
    step = BLOCK_BYTES // 8
    for start in range(0, labels.shape[0], step):
        block = labels[start : start + step]
        _require(block.min() >= 0 and block.max() < classes, "has a label that names no class")
        counts += np.bincount(block, minlength=classes)
    return [int(count) for count in counts]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RefusalError(otherwise)


if __name__ == "__main__":
    main()
