"""Hostile shards, properly signed: a signature says who sent a file, not that it is harmless."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from pixcell_share.bundles import SiteKey, _shard_check, verify_bundle
from pixcell_share.errors import FormatError
from tests.bundles.forging import TILE_PX, make_tiles, sign_anew, write_shard

SHARD = "shard-00000.h5"
COUNT = 6
SHAPE = (COUNT, TILE_PX, TILE_PX, 3)
CHUNK = (1, TILE_PX, TILE_PX, 3)
Edit = Callable[[h5py.File], object]


def _replace(name: str, make: Edit) -> Edit:
    """Remove the dataset ``name``, then make something else in its place."""

    def edit(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        make(file)
        with suppress(KeyError, OSError):  # a link that leads nowhere
            file[name].attrs.update(attributes)

    return edit


def _soft_link(file: h5py.File) -> None:
    file.move("images", "images2")
    file["images"] = h5py.SoftLink("/images2")


def _external_link(file: h5py.File) -> None:
    file["images"] = h5py.ExternalLink("shard-00001.h5", "/images")


def _external_storage(file: h5py.File) -> None:
    file.create_dataset("images", SHAPE, "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[:] = h5py.VirtualSource("shard-00001.h5", "images", SHAPE)
    file.create_virtual_dataset("images", layout)


def _nothing_stored(shape: tuple[int, ...], **arguments: Any) -> Edit:
    return lambda file: file.create_dataset("images", shape, "u1", **arguments)


def _compact(file: h5py.File) -> None:
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_layout(h5d.COMPACT)
    space = h5s.create_simple((COUNT,))
    h5d.create(file.id, b"labels", h5t.STD_I64LE, space, settings)
    file["labels"][:] = 0


def _typed(name: str, dtype: Any) -> Edit:
    shape = SHAPE if name == "images" else (COUNT,)
    return lambda file: file.create_dataset(name, data=np.zeros(shape, dtype))


def _filled(**arguments: Any) -> Edit:
    return lambda file: file.create_dataset(
        "images", data=np.zeros(SHAPE, "u1"), chunks=CHUNK, **arguments
    )


def _deflated_twice(file: h5py.File) -> None:
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_chunk(CHUNK)
    settings.set_deflate(1)
    settings.set_deflate(1)
    h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(SHAPE), settings)
    file["images"][:] = np.random.default_rng(0).integers(0, 256, SHAPE)


def _group(file: h5py.File) -> None:
    file.create_group("images")


def _vlen_attribute(file: h5py.File) -> None:
    del file["labels"].attrs["classes"]
    file["labels"].attrs["classes"] = np.array(["normal", "tumour"], dtype=h5py.string_dtype())


def _object_reference(file: h5py.File) -> None:
    file["labels"].attrs["classes"] = np.array([file.ref, file.ref], dtype=h5py.ref_dtype)


def _hidden_bytes(file: h5py.File) -> None:
    """Data that no name leads to: written, built over, then unlinked."""
    file.create_dataset("secret", data=np.arange(100_000))
    file.copy("images", "images2")
    del file["secret"], file["images"]
    file.move("images2", "images")


def _hidden_group(file: h5py.File) -> None:
    file.create_group(".hidden").create_dataset("secret", data=np.arange(10))


def _committed_type(file: h5py.File) -> None:
    file["images_type"] = np.dtype("u1")
    kind = file["images_type"]
    file.create_dataset("images", data=np.zeros(SHAPE, "u1"), dtype=kind)
    del file["images_type"]


HOSTILE: dict[str, tuple[Edit, str]] = {
    "soft link": (_soft_link, "exactly the datasets"),
    "soft link alone": (
        _replace("labels", lambda f: f.__setitem__("labels", h5py.SoftLink("/images"))),
        "labels is a link",
    ),
    "dangling soft link": (
        _replace("labels", lambda f: f.__setitem__("labels", h5py.SoftLink("/nowhere"))),
        "labels is a link",
    ),
    "external link": (_replace("images", _external_link), "images is a link"),
    "external storage": (_replace("images", _external_storage), "in another file"),
    "virtual dataset": (_replace("images", _virtual), "images is virtual"),
    "terabyte of nothing": (
        _replace("images", _nothing_stored((5_000_000, *SHAPE[1:]))),
        "not of the shape",
    ),
    "nothing stored, contiguous": (_replace("images", _nothing_stored(SHAPE)), "is not all there"),
    "nothing stored, chunked": (
        _replace("images", _nothing_stored(SHAPE, chunks=CHUNK)),
        "is not all there",
    ),
    "compact labels": (_replace("labels", _compact), "labels is virtual or compact"),
    "gzip bomb": (_replace("images", _filled(compression="gzip")), "more than 64 times"),
    "wide chunks": (
        _replace("images", _nothing_stored(SHAPE, chunks=(6, 8, 8, 3), fillvalue=1)),
        "cut through a tile",
    ),
    "lzf filter": (_replace("images", _filled(compression="lzf")), "filter that is not allowed"),
    "scale-offset filter": (_replace("images", _filled(scaleoffset=0)), "filter that is not"),
    "deflated twice": (_replace("images", _deflated_twice), "applies a filter twice"),
    "can grow": (_replace("images", _filled(maxshape=(None, *SHAPE[1:]))), "can grow"),
    "float images": (_replace("images", _typed("images", "f4")), "another data type"),
    "signed images": (_replace("images", _typed("images", "i1")), "another data type"),
    "boolean images": (_replace("images", _typed("images", bool)), "another data type"),
    "float labels with NaN": (
        _replace("labels", lambda f: f.create_dataset("labels", data=np.full(COUNT, np.nan))),
        "another data type",
    ),
    "big-endian labels": (_replace("labels", _typed("labels", ">i8")), "another data type"),
    "vlen string labels": (
        _replace("labels", lambda f: f.create_dataset("labels", (COUNT,), h5py.string_dtype())),
        "another data type",
    ),
    "compound labels": (
        _replace("labels", lambda f: f.create_dataset("labels", (COUNT,), [("a", "i8")])),
        "another data type",
    ),
    "committed type": (_replace("images", _committed_type), "another data type"),
    "scalar images": (_replace("images", lambda f: f.__setitem__("images", np.uint8(1))), "array"),
    "empty images": (
        _replace("images", lambda f: f.__setitem__("images", h5py.Empty("u1"))),
        "not an array",
    ),
    "wrong rank": (
        _replace("images", lambda f: f.create_dataset("images", data=np.zeros((6, 9), "u1"))),
        "not of the shape",
    ),
    "group for dataset": (_replace("images", _group), "exactly the datasets"),
    "missing dataset": (lambda f: f.__delitem__("labels"), "exactly the datasets"),
    "extra dataset": (lambda f: f.create_dataset("extra", data=[1]), "exactly the datasets"),
    "hidden group": (_hidden_group, "exactly the datasets"),
    "hidden bytes": (_hidden_bytes, "holds more than its two datasets"),
    "attribute on the file": (lambda f: f.attrs.__setitem__("host", "x"), "attribute on the file"),
    "attribute on images": (
        lambda f: f["images"].attrs.__setitem__("slide", "p1.svs"),
        "exactly the attribute mpp",
    ),
    "attribute missing": (lambda f: f["images"].attrs.__delitem__("mpp"), "exactly the attribute"),
    "other mpp": (lambda f: f["images"].attrs.__setitem__("mpp", 0.25), "mpp of images is not the"),
    "mpp as an array": (
        lambda f: f["images"].attrs.__setitem__("mpp", np.full(1000, 0.5)),
        "not one float64",
    ),
    "vlen class names": (_vlen_attribute, "fixed-length text"),
    "references for class names": (_object_reference, "fixed-length text"),
    "other class names": (
        lambda f: f["labels"].attrs.__setitem__("classes", np.array([b"normal", b"tumoor"])),
        "classes of labels is not the manifest's",
    ),
    "padded class names": (
        lambda f: f["labels"].attrs.__setitem__("classes", np.array([b"normal", b"tumour"], "S99")),
        "classes of labels is not the manifest's",
    ),
    "label out of range": (lambda f: f["labels"].__setitem__(0, 2), "label that names no class"),
    "negative label": (lambda f: f["labels"].__setitem__(0, -1), "label that names no class"),
    "user block": (lambda f: None, "does not begin as an HDF5 file"),
    "bytes after the end": (lambda f: None, "holds more than its two datasets"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_shard_is_refused(bundle: Path, key: SiteKey, name: str) -> None:
    edit, words = HOSTILE[name]
    path = bundle / SHARD
    write_shard(path, add=edit, count=COUNT)
    before, after = {"user block": (512, 0), "bytes after the end": (0, 100_000)}.get(name, (0, 0))
    path.write_bytes(bytes(before) + path.read_bytes() + bytes(after))
    sign_anew(bundle, key)
    with pytest.raises(FormatError) as caught:
        verify_bundle(bundle, [key.public])
    assert caught.value.cause.startswith(f"{SHARD} ")
    assert words in caught.value.cause


@pytest.mark.parametrize(
    "images",
    [
        {},
        {"chunks": CHUNK},
        {"chunks": (4, *CHUNK[1:]), "compression": "gzip", "shuffle": True, "fletcher32": True},
    ],
)
def test_plain_shards_of_other_writers_are_accepted(
    bundle: Path, key: SiteKey, images: dict[str, Any]
) -> None:
    """What the list allows does pass: deflate, shuffle and fletcher32 need no plug-in."""
    write_shard(bundle / SHARD, images=images, count=COUNT)
    sign_anew(bundle, key)
    assert verify_bundle(bundle, [key.public]).manifest.count == 12


def test_a_truncated_shard(bundle: Path, key: SiteKey) -> None:
    whole = (bundle / SHARD).read_bytes()
    for size in (len(whole) - 100, len(whole) // 2, 600, 8):
        (bundle / SHARD).write_bytes(whole[:size])
        sign_anew(bundle, key)
        with pytest.raises(FormatError, match=SHARD):
            verify_bundle(bundle, [key.public])


def test_a_broken_deflate_stream_is_found(bundle: Path, key: SiteKey) -> None:
    path = bundle / SHARD
    write_shard(path, images={"chunks": CHUNK, "compression": "gzip"}, count=COUNT)
    with h5py.File(path) as file:
        at = file["images"].id.get_chunk_info(COUNT - 1).byte_offset
    data = bytearray(path.read_bytes())
    data[at + 100 : at + 200] = bytes(100)
    path.write_bytes(data)
    sign_anew(bundle, key)
    with pytest.raises(FormatError, match="damaged"):
        verify_bundle(bundle, [key.public])


def test_chunks_that_claim_more_than_the_file_holds(bundle: Path, key: SiteKey) -> None:
    """The index can state any size; were it believed, a bomb would look like plain data."""
    path = bundle / SHARD
    write_shard(path, images={"chunks": CHUNK, "compression": "gzip"}, count=COUNT)
    with h5py.File(path) as file:
        size = file["images"].id.get_chunk_info(2).size
    data = path.read_bytes()
    entry = struct.pack("<IIQ", size, 0, 2)  # size, filter mask, first row: a key of the B-tree
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, struct.pack("<IIQ", 1 << 30, 0, 2)))
    sign_anew(bundle, key)
    with pytest.raises(FormatError, match="images is larger than the file"):
        verify_bundle(bundle, [key.public])


def test_a_chunk_of_more_than_16_mib(bundle: Path, key: SiteKey) -> None:
    path, count = bundle / SHARD, 6000
    chunk = {"chunks": (count, *SHAPE[1:]), "compression": "gzip"}
    write_shard(path, images=chunk, count=count)

    def edit(manifest: dict[str, Any]) -> None:
        predicate = manifest["predicate"]
        predicate["shards"][0]["count"] = count
        predicate["tiles"]["count"] += count - COUNT
        for entry in predicate["classes"]:
            entry["count"] += (count - COUNT) // 2

    sign_anew(bundle, key, edit_manifest=edit)
    with pytest.raises(FormatError, match="more than 16 MiB"):
        verify_bundle(bundle, [key.public])


def test_labels_must_match_the_counts_of_the_manifest(bundle: Path, key: SiteKey) -> None:
    write_shard(bundle / SHARD, add=lambda f: f["labels"].__setitem__(0, 1), count=COUNT)
    sign_anew(bundle, key)
    with pytest.raises(FormatError, match="does not match the labels"):
        verify_bundle(bundle, [key.public])


def test_more_tiles_than_the_manifest_states(bundle: Path, key: SiteKey) -> None:
    write_shard(bundle / SHARD, count=COUNT + 2)
    sign_anew(bundle, key)
    with pytest.raises(FormatError, match="not of the shape"):
        verify_bundle(bundle, [key.public])


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_to_the_structures_never_passes_unseen(
    bundle: Path, key: SiteKey, seed: int
) -> None:
    """Signed garbage: refused, or read as exactly the tiles; the hub's process lives on."""
    path = bundle / SHARD
    with h5py.File(path) as file:
        start = file["images"].id.get_offset()
        before = file["images"][:], file["labels"][:]
    chance = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in chance.integers(8, start, 12):
        data[place] = chance.integers(256)
    path.write_bytes(data)
    sign_anew(bundle, key)
    try:
        verify_bundle(bundle, [key.public])
    except FormatError as error:
        assert error.cause.startswith(SHARD)
        return
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["images"][:], before[0])
        np.testing.assert_array_equal(file["labels"][:], before[1])


def test_nothing_is_read_by_hdf5_in_this_process(
    bundle: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("HDF5 was opened in the process that must stay clean")

    monkeypatch.setattr(h5py.h5f, "open", refuse)
    monkeypatch.setattr(h5py.File, "__init__", refuse)
    assert verify_bundle(bundle, [key.public]).manifest.count == 12


def test_hdf5_is_not_opened_before_the_signature_holds(
    bundle: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    with (bundle / SHARD).open("r+b") as file:
        file.write(b"x")
    with pytest.raises(Exception, match="differs from its signed digest"):
        verify_bundle(bundle, [key.public])


CONFINED = """
import importlib.util, json, os, resource, socket, sys
spec = importlib.util.spec_from_file_location("check", sys.argv[1])
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
check.confine(20)
found = {}
for name, act in {
    "open": lambda: open("/etc/passwd").close(),
    "create": lambda: open(sys.argv[2] + "/made", "w").close(),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 1).close(),
    "memory": lambda: bytearray(1 << 30),
}.items():
    try:
        act()
        found[name] = "done"
    except (OSError, MemoryError) as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""


def test_the_confined_process_has_no_files_network_or_memory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "-I", "-c", CONFINED, _shard_check.__file__]
        done = subprocess.run(
            [*command, str(tmp_path), port], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["memory"] == "MemoryError"
    assert found["connect"] != "done" or not _may_unshare(), found
    if _has_landlock():
        assert found["open"] == found["create"] == "PermissionError"
        assert not any(tmp_path.iterdir())


def _has_landlock() -> bool:
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def _may_unshare() -> bool:
    return (
        subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode == 0
    )


def test_tiles_of_the_forger_are_those_of_the_writer(bundle: Path) -> None:
    """Else hostile shards could be refused for their pixels."""
    with h5py.File(bundle / SHARD) as file:
        images = file["images"][:]
    np.testing.assert_array_equal(images, [tile for tile, _ in make_tiles(len(images))])
