from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pixcell_share.bundles import (
    AuditResult,
    AuditTest,
    BundleSummary,
    SiteKey,
    verify_bundle,
    write_bundle,
)
from pixcell_share.errors import ReleaseRefusedError, SettingsError, StorageError
from tests.bundles.forging import COHORT, PASSED, TILE_PX, make_tiles

REFUSED = AuditResult("REFUSE", (AuditTest("near_copies", False, {"near_copies": 2}),))
INVALID = AuditResult("INVALID", (AuditTest("planted_copies", False, {"caught": 0}),))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_was_written_is_verified_and_read_back(good: BundleSummary, key: SiteKey) -> None:
    verified = verify_bundle(good.folder, [key.public])
    assert verified.manifest == good.manifest
    assert verified.audit == PASSED
    assert verified.digest == good.digest
    assert verified.manifest.counts == {"normal": 6, "tumour": 6}


def test_plain_h5py_reads_every_tile_in_order(good: BundleSummary) -> None:
    images, labels = [], []
    for shard in good.manifest.shards:
        with h5py.File(good.folder / shard.name) as file:
            assert file["images"].dtype == np.uint8
            assert file["images"].attrs["mpp"] == 0.5
            names = [name.decode() for name in file["labels"].attrs["classes"]]
            assert names == list(COHORT.classes)
            images.append(file["images"][:])
            labels.append(file["labels"][:])
    expected_images, expected_labels = zip(*make_tiles(12), strict=True)
    assert len(images) > 1
    np.testing.assert_array_equal(np.concatenate(images), np.stack(expected_images))
    np.testing.assert_array_equal(np.concatenate(labels), expected_labels)


def test_no_shard_is_larger_than_asked(key: SiteKey, tmp_path: Path) -> None:
    limit = 80_000
    made = write_bundle(
        tmp_path / "b", COHORT, make_tiles(40), PASSED, key, count=40, shard_bytes=limit
    )
    sizes = [(made.folder / shard.name).stat().st_size for shard in made.manifest.shards]
    assert max(sizes) <= limit
    assert sum(shard.count for shard in made.manifest.shards) == 40
    verify_bundle(made.folder, [key.public])


def test_tiles_are_streamed(key: SiteKey, tmp_path: Path) -> None:
    """No more than one tile is alive when the next is asked for."""
    alive: list[weakref.ref] = []

    def tiles() -> Iterator[tuple[np.ndarray, int]]:
        for _ in range(30):
            assert sum(ref() is not None for ref in alive) <= 1
            tile = np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8)
            alive.append(weakref.ref(tile))
            yield tile, 0
            del tile

    write_bundle(tmp_path / "b", COHORT, tiles(), PASSED, key, count=30)
    assert len(alive) == 30


@pytest.mark.parametrize("audit", [REFUSED, INVALID])
def test_nothing_is_signed_unless_the_audit_passed(
    key: SiteKey, tmp_path: Path, audit: AuditResult
) -> None:
    def tiles() -> Iterator[tuple[np.ndarray, int]]:
        raise AssertionError("a tile was read")
        yield

    with pytest.raises(ReleaseRefusedError) as caught:
        write_bundle(tmp_path / "b", COHORT, tiles(), audit, key, count=1)
    assert caught.value.exit_code == 4
    assert names_in(tmp_path) == []


SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.umask(int(sys.argv[4], 8))
from pathlib import Path
from tests.bundles.forging import COHORT, PASSED, make_tiles
from pixcell_share.bundles import SiteKey, write_bundle
key = SiteKey.load(Path(sys.argv[2]))
tiles = make_tiles(12)
made = write_bundle(Path(sys.argv[3]), COHORT, tiles, PASSED, key, count=12, shard_bytes=85_000)
print(made.digest)
"""


def test_same_bytes_from_other_folder_process_umask_zone_and_locale(tmp_path: Path) -> None:
    key_file = tmp_path / "site.key"
    key = SiteKey.create(key_file)
    here = tmp_path / "here"
    write_bundle(here, COHORT, make_tiles(12), PASSED, key, count=12, shard_bytes=85_000)
    there = tmp_path / "another" / "place" / "there"
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        str(Path(__file__).parents[2]),
        str(key_file),
        str(there),
    ]
    environment = {**os.environ, "TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    subprocess.run([*command, "077"], env=environment, check=True, cwd="/")
    assert contents(there) == contents(here)
    modes = [{path.name: path.stat().st_mode for path in b.iterdir()} for b in (here, there)]
    assert modes[0] == modes[1]


def test_no_path_host_user_or_date_is_in_any_byte(good: BundleSummary) -> None:
    words = [str(good.folder), str(Path.cwd()), str(Path.home()), socket.gethostname(), "/tmp"]
    words += [getpass.getuser() + "@", time.strftime("%Y-%m"), time.strftime("%b %e")]
    words = [word for word in words if len(word) > 3]  # shorter ones turn up in noise by chance
    for name, data in contents(good.folder).items():
        for word in words:
            assert word.encode() not in data, (name, word)


def test_no_clock_is_in_the_structures_of_hdf5(good: BundleSummary) -> None:
    """HDF5 can stamp every object with its modification time, four bytes since 1970."""
    for shard in good.manifest.shards:
        path = good.folder / shard.name
        with h5py.File(path) as file:
            start, size = file["images"].id.get_offset(), file["images"].nbytes
        data = path.read_bytes()
        structures = data[:start] + data[start + size :]
        stamps = {(int(time.time()) - age).to_bytes(4, "little") for age in range(-60, 3600)}
        found = {structures[i : i + 4] for i in range(len(structures) - 3)} & stamps
        assert len(structures) > 500
        assert not found


def test_another_run_of_the_same_bundle_changes_nothing(key: SiteKey, tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "b", COHORT, make_tiles(4), PASSED, key, count=4)
    inode = (tmp_path / "b").stat().st_ino
    again = write_bundle(tmp_path / "b", COHORT, make_tiles(4), PASSED, key, count=4)
    assert again.digest == first.digest
    assert (tmp_path / "b").stat().st_ino == inode
    assert names_in(tmp_path) == ["b"]


def test_a_different_bundle_is_never_overwritten(key: SiteKey, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", COHORT, make_tiles(4), PASSED, key, count=4)
    before = contents(tmp_path / "b")
    with pytest.raises(StorageError, match="there already"):
        write_bundle(tmp_path / "b", COHORT, make_tiles(4, seed=1), PASSED, key, count=4)
    assert contents(tmp_path / "b") == before
    assert names_in(tmp_path) == ["b"]


@pytest.mark.parametrize("fault", ["shape", "dtype", "label", "too few", "too many", "source"])
def test_a_fault_in_the_tiles_leaves_nothing(key: SiteKey, tmp_path: Path, fault: str) -> None:
    tile = np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8)
    faulty = {
        "shape": [(tile, 0), (tile[1:], 0)],
        "dtype": [(tile, 0), (tile.astype(np.float32), 0)],
        "label": [(tile, 0), (tile, 2)],
        "too few": [(tile, 0)],
        "too many": [(tile, 0)] * 3,
        "source": _breaking(tile),
    }[fault]
    expected = ConnectionError if fault == "source" else ValueError
    with pytest.raises(expected):
        write_bundle(tmp_path / "b", COHORT, faulty, PASSED, key, count=2)
    assert names_in(tmp_path) == []


def _breaking(tile: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    yield tile, 0
    raise ConnectionError("the generator broke")


FULL = """
import resource, sys, os
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.bundles.forging import COHORT, PASSED, make_tiles
from pixcell_share.bundles import SiteKey, write_bundle
from pixcell_share.errors import StorageError
folder = Path(sys.argv[2])
key = SiteKey.create(folder / "k")
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write_bundle(folder / "b", COHORT, make_tiles(40), PASSED, key, count=40)
except StorageError as error:
    print(error.cause, sorted(os.listdir(folder)))
"""


@pytest.mark.parametrize("limit", [1, 1_000, 100_000, 200_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A limit on file sizes stands for the disk: the kernel refuses the write in the same place.

    The last limit lets the shard pass and stops at the preview.
    """
    command = [sys.executable, "-c", FULL, str(Path(__file__).parents[2])]
    done = subprocess.run(
        [*command, str(tmp_path), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the disk is full while writing b ['k']"


def test_too_little_room_is_said_before_the_first_tile(
    key: SiteKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    tiles = make_tiles(40)
    with pytest.raises(StorageError, match=r"needs .* GB"):
        write_bundle(tmp_path / "b", COHORT, tiles, PASSED, key, count=40)
    assert next(tiles)[1] == 0, "no tile was taken"


def test_what_an_earlier_kill_left_is_cleared(key: SiteKey, tmp_path: Path) -> None:
    (tmp_path / ".b.part").mkdir()
    (tmp_path / ".b.part" / "shard-00007.h5").write_bytes(b"half")
    made = write_bundle(tmp_path / "b", COHORT, make_tiles(4), PASSED, key, count=4)
    verify_bundle(made.folder, [key.public])
    assert names_in(tmp_path) == ["b"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "/data/wsi"),
        ("site", "a\x1b[31m"),
        ("site", "\u202egnp"),
        ("site", "x" * 65),
        ("site", ""),
        ("site", "<b>hospital</b>"),
        ("site", "Ko\u0308ln"),
        ("classes", ()),
        ("classes", ("a", "a")),
        ("classes", ("slides/p1.svs",)),
        ("tile_px", 0),
        ("mpp", float("nan")),
        ("mpp", 0.0),
        ("models", ()),
    ],
)
def test_a_cohort_that_must_not_be_public_is_refused(field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        replace(COHORT, **{field: value})


def test_a_model_named_by_a_path_is_refused() -> None:
    for source in ("/home/me/weights", "~/w", "./w", "..", "C:\\w", "a/../b"):
        model = replace(COHORT.models[0], source=source)
        with pytest.raises(SettingsError, match="path"):
            replace(COHORT, models=(model,))


def test_an_audit_cannot_contradict_itself() -> None:
    failed = AuditTest("near_copies", False)
    with pytest.raises(SettingsError, match="although near_copies failed"):
        AuditResult("PASS", (failed,))
    with pytest.raises(SettingsError, match="no test failed"):
        AuditResult("REFUSE", (AuditTest("near_copies", True),))
    with pytest.raises(SettingsError, match="1 to"):
        AuditResult("PASS", ())
    with pytest.raises(SettingsError, match="finite"):
        AuditTest("near_copies", True, {"ncc": float("nan")})
