"""The confined process: what it may not do, what it sends, and what is believed of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pixcell_share.bundles import Fault, SiteKey, inspection, opened_bundle
from pixcell_share.bundles._confined import sandbox
from pixcell_share.bundles._confined.look import LOOK, look_at
from pixcell_share.bundles.inspection import ShardStream
from pixcell_share.errors import DigestError, FormatError
from tests.bundles.forging import COHORT, make_tiles, write_shard

EXPECTED = {
    "count": 6,
    "tile_px": COHORT.tile_px,
    "mpp": COHORT.mpp,
    "classes": COHORT.classes,
}
FORBIDDEN = """
import importlib.util, json, os, signal, socket, sys
spec = importlib.util.spec_from_file_location("sandbox", sys.argv[1])
sandbox = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sandbox)
sandbox._forbid_calls(__import__("ctypes").CDLL(None)) if sys.argv[2] == "seccomp" else None
def tried(act):
    try:
        act()
        return 0
    except OSError as error:
        return error.errno
acts = {
    "read": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "write": lambda: os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT),
    "remove": lambda: os.unlink(sys.argv[3]),
    "socket": lambda: socket.socket(),
    "pair": lambda: socket.socketpair(),
    "run": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "signal": lambda: os.kill(os.getpid(), 0),
}
print(json.dumps({name: tried(act) for name, act in acts.items()}))
"""


def _tried(tmp_path: Path, how: str) -> dict[str, int]:
    command = [sys.executable, "-I", "-c", FORBIDDEN, sandbox.__file__, how, str(tmp_path / how)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_seccomp_alone_forbids_what_reaches_outside(tmp_path: Path) -> None:
    if platform.machine() not in sandbox._ARCHITECTURES:
        pytest.skip(f"there is no list of system calls for {platform.machine()}")
    assert set(_tried(tmp_path, "nothing").values()) == {0}, "else this test shows nothing"
    assert set(_tried(tmp_path, "seccomp").values()) == {1}, "EPERM for each"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard-00000.h5"
    write_shard(path, images={"chunks": (4, 32, 32, 3), "compression": "gzip"}, count=6)
    return path


def _streamed(path: Path, expected: dict[str, Any] = EXPECTED) -> tuple[bytes, Any]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with ShardStream.opened(descriptor, path.name, expected) as stream:
            return stream.read(), stream.finish()
    finally:
        os.close(descriptor)


def test_a_stream_gives_pixels_labels_and_looks(shard: Path) -> None:
    data, facts = _streamed(shard)
    images, labels = zip(*make_tiles(6), strict=True)
    assert data == np.stack(images).tobytes()
    np.testing.assert_array_equal(facts.labels, labels)
    assert facts.class_counts == (3, 3)
    looks = np.empty(6, LOOK)
    look_at(np.stack(images), looks)
    np.testing.assert_array_equal(facts.looks, looks)


def test_a_stream_that_ends_early_says_why(shard: Path) -> None:
    with h5py.File(shard) as file:
        at = file["images"].id.get_chunk_info(1).byte_offset
    data = bytearray(shard.read_bytes())
    data[at + 100 : at + 200] = bytes(100)
    shard.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        _streamed(shard)
    assert caught.value.reason == Fault.HDF5_DAMAGED


def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put another program in the place of the confined one: one that was taken over."""
    folder = tmp_path / "taken_over"
    folder.mkdir()
    (folder / "__main__.py").write_text(
        f"import os, sys, json, time\nout = int(sys.argv[3])\n{code}"
    )
    monkeypatch.setattr(inspection, "_PROGRAM", folder)


PIXELS = 6 * 3 * COHORT.tile_px**2
LABELS = "(0).to_bytes(8, sys.byteorder) * 6"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("os.kill(os.getpid(), 11)", Fault.READER_DIED),
        ("os._exit(3)", Fault.READER_DIED),
        ("print('{}')", Fault.READER_TALKED_NONSENSE),
        ("print('[' * 99)", Fault.JSON_TOO_DEEP),
        ("print(json.dumps({'reason': '', 'fault': 'none'}))", Fault.READER_TALKED_NONSENSE),
        (f"os.write(out, bytes({PIXELS - 1})); print('{{\"class_counts\": [6, 0]}}')",
         Fault.READER_TALKED_NONSENSE),
        (f"os.write(out, bytes({PIXELS}) + {LABELS}); print('{{\"class_counts\": [5, 1]}}')",
         Fault.READER_TALKED_NONSENSE),
        (f"os.write(out, bytes({PIXELS}) + b'\\xff' * 48); print('{{\"class_counts\": [6, 0]}}')",
         Fault.READER_TALKED_NONSENSE),
    ],
)  # fmt: skip
def test_a_process_that_was_taken_over_is_not_believed(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: Fault
) -> None:
    _program(tmp_path, monkeypatch, code)
    with pytest.raises(FormatError) as caught:
        _streamed(shard)
    assert caught.value.reason == fault


def test_a_process_that_says_nothing_is_given_up(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(inspection, "_STALL_SECONDS", 0.2)
    with pytest.raises(FormatError) as caught:
        _streamed(shard)
    assert caught.value.reason == Fault.READER_TOO_SLOW


def test_a_shard_that_changes_after_it_was_hashed(bundle: Path, key: SiteKey) -> None:
    with opened_bundle(bundle, [key.public]) as signed:
        first = signed.manifest.shards[0]
        os.utime(bundle / first.name, (1, 1))
        with pytest.raises(DigestError) as caught:
            signed.inspect(first)
    assert caught.value.reason == Fault.FILE_CHANGED_MEANWHILE
