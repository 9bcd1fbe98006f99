"""Shards of strangers, properly signed: a signature says who sent a file, not that it is harmless.

Hostile shards by name are in the corpus: ``tests/hub_server/test_intake_hostile.py``.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pixcell_share.bundles import SiteKey, verify_bundle
from pixcell_share.bundles._confined import sandbox
from pixcell_share.errors import FormatError
from tests.bundles.forging import make_tiles, sign_anew, write_shard
from tests.bundles.hostile_shards import CHUNK, COUNT, SHAPE, SHARD


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

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with (bundle / SHARD).open("r+b") as file:
        file.write(b"x")
    with pytest.raises(Exception, match="differs from its signed digest"):
        verify_bundle(bundle, [key.public])


CONFINED = """
import importlib.util, json, os, resource, socket, sys
spec = importlib.util.spec_from_file_location("sandbox", sys.argv[1])
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
check.confine(20)
found = {}
for name, act in {
    "open": lambda: open("/etc/passwd").close(),
    "create": lambda: open(sys.argv[2] + "/made", "w").close(),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 1).close(),
    "datagram": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
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
        command = [sys.executable, "-I", "-c", CONFINED, sandbox.__file__]
        done = subprocess.run(
            [*command, str(tmp_path), port], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["memory"] == "MemoryError"
    if _may_unshare():
        assert "done" not in (found["connect"], found["datagram"])
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
