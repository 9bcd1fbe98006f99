"""Files by key, in a folder and in an object store."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hub_server.storage import LocalStorage, ObjectStorage, Storage, Stored, open_storage
from pixcell_share.errors import NotFoundError, SettingsError, StorageError

LARGE = bytes(range(256)) * (33 << 12)
"""33 MiB: three parts of an object store's upload."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 on loopback (moto)."""
    moto = pytest.importorskip(
        "moto.server", reason="there is no moto here; `pip install moto flask flask-cors` adds it"
    )
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty bucket."""
    boto3 = pytest.importorskip("boto3")
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "tests"),
        ("AWS_SECRET_ACCESS_KEY", "tests"),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    bucket = f"pixcell-{uuid.uuid4().hex}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    return open_storage(f"s3://{bucket}/prefix")


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3")
        return found
    return open_storage(str(tmp_path / "files") if request.param == "local" else "memory:///")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "source",
    [lambda data, path: data, lambda data, path: io.BytesIO(data), lambda data, path: path],
)
def test_a_file_comes_back_as_it_was(
    storage: Storage, tmp_path: Path, source: Callable[[bytes, Path], object]
) -> None:
    path = tmp_path / "source"
    for data in (b"", b"tiles"):
        path.write_bytes(data)
        stored = storage.put("cohorts/a/images.npy", source(data, path), sha256=sha256(data))
        assert stored == Stored(len(data), sha256(data))
        with storage.get("cohorts/a/images.npy") as stream:
            assert stream.read() == data


def test_a_large_file_goes_in_parts(storage: Storage) -> None:
    assert storage.put("a", io.BytesIO(LARGE)) == Stored(len(LARGE), sha256(LARGE))
    with storage.get("a") as stream:
        assert stream.read() == LARGE


def test_a_stream_can_be_read_here_and_there(storage: Storage) -> None:
    storage.put("a", LARGE)
    with storage.get("a") as stream:
        assert stream.seek(-7, io.SEEK_END) == len(LARGE) - 7
        assert stream.read() == LARGE[-7:]
        assert stream.seek(1 << 20) == 1 << 20
        assert stream.read(300) == LARGE[1 << 20 :][:300]
        assert stream.tell() == (1 << 20) + 300


def test_numpy_reads_from_it(storage: Storage) -> None:
    tiles, file = np.arange(60, dtype=np.uint8).reshape(5, 3, 4), io.BytesIO()
    np.save(file, tiles)
    storage.put("tiles.npy", file.getvalue())
    with storage.get("tiles.npy") as stream:
        np.testing.assert_array_equal(np.load(stream), tiles)


def test_another_digest_writes_nothing_and_replaces_nothing(storage: Storage) -> None:
    storage.put("a/b", b"before")
    for key in ("a/b", "a/new"):
        with pytest.raises(StorageError, match="is not what it was"):
            storage.put(key, LARGE, sha256=sha256(b"other"))
    assert list(storage.list("a")) == ["a/b"]
    assert storage.get("a/b").read() == b"before"


def test_a_stream_that_breaks_writes_nothing(storage: Storage) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20 << 20:
                raise ConnectionError("cut")
            return super().read(size)

    with pytest.raises(ConnectionError):
        storage.put("a/b", Broken(LARGE))
    assert not storage.exists("a/b")
    assert list(storage.list("a")) == []


def test_fetching_checks_the_digest(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "here"
    storage.put("a", b"tiles")
    storage.fetch("a", target, sha256=sha256(b"tiles"))
    assert target.read_bytes() == b"tiles"
    storage.put("a", b"other")
    with pytest.raises(StorageError):
        storage.fetch("a", target, sha256=sha256(b"tiles"))
    assert target.read_bytes() == b"tiles"
    with pytest.raises(NotFoundError):
        storage.fetch("none", target, sha256=sha256(b"tiles"))


def test_keys_are_listed_below_a_folder(storage: Storage) -> None:
    for key in ("cohorts/a/x", "cohorts/a/y/z", "cohorts/ab/x", "encoders/a"):
        storage.put(key, b"1")
    assert list(storage.list("cohorts/a")) == ["cohorts/a/x", "cohorts/a/y/z"]
    assert list(storage.list("cohorts")) == ["cohorts/a/x", "cohorts/a/y/z", "cohorts/ab/x"]
    assert list(storage.list("nothing")) == []


def test_deleting_twice_is_as_once(storage: Storage) -> None:
    storage.put("a/b/c", b"1")
    storage.put("a/d", b"1")
    for _ in range(2):
        storage.delete("a/b/c")
        assert not storage.exists("a/b/c")
    assert storage.exists("a/d")
    with pytest.raises(NotFoundError, match="a/b/c"):
        storage.get("a/b/c")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "a/../b",
        "..",
        ".",
        "a//b",
        "a/",
        "a/.hidden",
        "~/x",
        "a\\b",
        "a\0b",
        "a\nb",
        "ä",
        "a b",
        "a%2Fb",
        "a/" * 8 + "b",
        "x" * 129,
        "C:/x",
    ],
)
def test_a_key_that_could_be_a_path_is_refused(tmp_path: Path, key: str) -> None:
    for storage in (LocalStorage(tmp_path), ObjectStorage("memory:///")):
        acts = (storage.path, storage.get, storage.exists, storage.delete, storage.list)
        for act in acts:
            with pytest.raises(ValueError, match="no key"):
                act(key)
        with pytest.raises(ValueError, match="no key"):
            storage.put(key, b"1")


def test_only_a_folder_has_paths(tmp_path: Path) -> None:
    local, memory = LocalStorage(tmp_path), ObjectStorage("memory:///")
    for storage in (local, memory):
        storage.put("a/b", b"1")
    assert local.path("a/b").read_bytes() == b"1"
    assert memory.path("a/b") is None
    assert open_storage(f"file://{tmp_path}").get("a/b").read() == b"1"


def test_what_is_half_written_in_a_folder_is_not_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/b", b"1")
    (tmp_path / "a" / ".c.123.part").write_bytes(b"half")
    assert list(storage.list("a")) == ["a/b"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a", b"before")

    def full(_descriptor: int) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="disk is full"):
        patch.setattr(os, "fsync", full)
        storage.put("a", b"after")
    assert storage.get("a").read() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("url", ["gopher://x/y", "s3://", "://"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_storage(url)


def test_an_s3_without_the_bucket_is_named(s3: Storage) -> None:
    with pytest.raises(StorageError, match="no bucket"):
        open_storage("s3://no-such-bucket/prefix").put("a", b"1")
