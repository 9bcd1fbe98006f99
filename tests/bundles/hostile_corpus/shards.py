"""Shards that do harm, or try to hide something. All are signed by a member."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixcell_share.bundles import Fault, SiteKey
from tests.bundles.forging import sign_anew, write_shard
from tests.bundles.hostile_corpus.case import Case, Spoil
from tests.bundles.hostile_shards import CHUNK, COUNT, HOSTILE, SHAPE, SHARD


def cases() -> list[Case]:
    """Every shard of `hostile_shards`, and those that need more than a call of h5py."""
    named = [_from_hostile(name) for name in HOSTILE]
    return [*named, *_BY_HAND]


def _from_hostile(name: str) -> Case:
    edit, words, fault = HOSTILE[name]

    def spoil(folder: Path, key: SiteKey) -> None:
        path = folder / SHARD
        write_shard(path, add=edit, count=COUNT)
        before, after = {"user block": (512, 0), "bytes after the end": (0, 70_000)}.get(
            name, (0, 0)
        )
        path.write_bytes(bytes(before) + path.read_bytes() + bytes(after))
        sign_anew(folder, key)

    slug = name.replace(",", "").replace(" ", "_").replace("-", "_").lower()
    return Case(slug, fault, f"A shard: {name}.", spoil, says=words)


def _bytes_of_shard(change: Callable[[bytes], bytes], **images: Any) -> Spoil:
    """Change the raw bytes of a shard that h5py wrote."""

    def spoil(folder: Path, key: SiteKey) -> None:
        path = folder / SHARD
        write_shard(path, images=images or None, count=COUNT)
        path.write_bytes(change(path.read_bytes()))
        sign_anew(folder, key)

    return spoil


def _deflated(folder: Path) -> tuple[bytes, h5py.h5d.StoreInfo]:
    path = folder / SHARD
    write_shard(path, images={"chunks": CHUNK, "compression": "gzip"}, count=COUNT)
    with h5py.File(path) as file:
        return path.read_bytes(), file["images"].id.get_chunk_info(2)


def _broken_deflate(folder: Path, key: SiteKey) -> None:
    data, chunk = _deflated(folder)
    at = chunk.byte_offset + 100
    (folder / SHARD).write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    sign_anew(folder, key)


def _index_bomb(folder: Path, key: SiteKey) -> None:
    data, chunk = _deflated(folder)
    entry = struct.pack("<IIQ", chunk.size, 0, 2)  # size, filter mask, first row
    assert data.count(entry) == 1
    (folder / SHARD).write_bytes(data.replace(entry, struct.pack("<IIQ", 1 << 30, 0, 2)))
    sign_anew(folder, key)


def _flipped_structure(data: bytes) -> bytes:
    """The signature of the root group's B-tree."""
    at = data.index(b"TREE")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _large_chunk(folder: Path, key: SiteKey) -> None:
    count = 6000
    chunk = (count, *SHAPE[1:])
    images = {"data": np.zeros(chunk, "u1"), "chunks": chunk, "compression": "gzip"}
    labels = {"data": np.arange(count, dtype="<i8") % 2, "chunks": (count,), "compression": "gzip"}
    write_shard(folder / SHARD, images=images, labels=labels, count=1)
    sign_anew(folder, key, edit_manifest=lambda m: _restate(m, count))


def _terabyte_stated_too(folder: Path, key: SiteKey) -> None:
    edit, _, _ = HOSTILE["terabyte of nothing"]
    write_shard(folder / SHARD, add=edit, count=COUNT)
    sign_anew(
        folder, key, edit_manifest=lambda m: _restate(m, 2**40 // (3 * SHAPE[1] ** 2) // 2 * 2)
    )


def _restate(manifest: dict[str, Any], count: int) -> None:
    predicate = manifest["predicate"]
    predicate["shards"][0]["count"] = predicate["tiles"]["count"] = count
    for entry in predicate["classes"]:
        entry["count"] = count // 2


def _one_label_other(file: h5py.File) -> None:
    file["labels"][0] = 1


def _labels_disagree(folder: Path, key: SiteKey) -> None:
    write_shard(folder / SHARD, add=_one_label_other, count=COUNT)
    sign_anew(folder, key)


def _two_more(folder: Path, key: SiteKey) -> None:
    write_shard(folder / SHARD, count=COUNT + 2)
    sign_anew(folder, key)


_BY_HAND = (
    Case(
        *("truncated_shard", Fault.HDF5_DAMAGED),
        "A shard was cut in the middle, then signed.",
        _bytes_of_shard(lambda data: data[: len(data) // 2]),
    ),
    Case(
        *("truncated_header", Fault.HDF5_DAMAGED),
        "A shard ends within HDF5's own structures, and is signed.",
        _bytes_of_shard(lambda data: data[:600]),
    ),
    Case(
        *("bit_flipped_structure", Fault.HDF5_DAMAGED),
        "One bit of HDF5's structures is flipped, then it is signed.",
        _bytes_of_shard(_flipped_structure),
    ),
    Case(
        *("picture_for_shard", Fault.HDF5_NOT_HDF5),
        "A shard is a PNG.",
        _bytes_of_shard(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ),
    Case(*("broken_deflate", Fault.HDF5_DAMAGED), "A chunk is no deflate stream.", _broken_deflate),
    Case(
        *("index_bomb", Fault.HDF5_NOT_ALL_THERE),
        "The index of chunks states a gigabyte that the file does not hold.",
        _index_bomb,
    ),
    Case(
        *("large_chunk", Fault.HDF5_CHUNKS_NOT_ALLOWED),
        "One chunk of more than 16 MiB, deflated to next to nothing.",
        _large_chunk,
    ),
    Case(
        *("terabyte_stated_too", Fault.FIELD_WRONG),
        "A terabyte of nothing, and the manifest says so.",
        _terabyte_stated_too,
    ),
    Case(
        *("labels_disagree", Fault.LABELS_DISAGREE),
        "The labels are not as many of each class as the manifest states.",
        _labels_disagree,
    ),
    Case(
        *("more_tiles_than_stated", Fault.HDF5_SHAPE_WRONG),
        "A shard holds two tiles that the manifest does not count.",
        _two_more,
    ),
)
