from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pixcell_share.bundles import SiteKey, load_public_key, shuffled_order
from pixcell_share.errors import KeyFileError


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.key"
    SiteKey.create(path)
    return path


def test_create_writes_a_private_file_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        SiteKey.create(tmp_path / "site.key")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["site.key"]


def test_load_gives_the_key_that_was_created(tmp_path: Path) -> None:
    created = SiteKey.create(tmp_path / "site.key")
    loaded = SiteKey.load(tmp_path / "site.key")
    assert loaded.key_id == created.key_id
    assert created.public.verifies(loaded.sign(b"message"), b"message")
    assert not created.public.verifies(loaded.sign(b"message"), b"massage")


def test_create_never_overwrites(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        SiteKey.create(key_file)
    assert key_file.read_bytes() == before
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_read_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match="readable by others") as caught:
        SiteKey.load(key_file)
    assert "chmod 600" in caught.value.remedy


def test_missing_damaged_and_wrong_keys_are_told_apart(key_file: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no key"):
        SiteKey.load(tmp_path / "absent.key")
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_public_key(tmp_path)
    public = tmp_path / "site.pub"
    public.write_bytes(SiteKey.load(key_file).public_pem)
    public.chmod(0o600)
    with pytest.raises(KeyFileError, match="is a public key"):
        SiteKey.load(public)
    with pytest.raises(KeyFileError, match="is a private key"):
        load_public_key(key_file)
    key_file.write_bytes(key_file.read_bytes()[:60])
    with pytest.raises(KeyFileError, match="not a private key in PEM"):
        SiteKey.load(key_file)
    public.write_bytes(b"\0" * 100_000)
    with pytest.raises(KeyFileError, match="not a public key in PEM"):
        load_public_key(public)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "ec.key", tmp_path / "ec.pub"
    private.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    public.write_bytes(
        other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(KeyFileError, match="another kind"):
        SiteKey.load(private)
    with pytest.raises(KeyFileError, match="another kind"):
        load_public_key(public)


def test_an_encrypted_key_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    key = SiteKey.create(path)
    path.write_bytes(
        key._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(KeyFileError, match="passphrase"):
        SiteKey.load(path)


def test_key_id_is_what_openssl_computes(key_file: Path) -> None:
    command = ["openssl", "pkey", "-in", str(key_file), "-pubout", "-outform", "DER"]
    try:
        der = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("openssl is not installed: apt install openssl")
    assert SiteKey.load(key_file).key_id == hashlib.sha256(der).hexdigest()


def test_derived_bytes_follow_rfc_5869(key_file: Path) -> None:
    """HKDF written out with hmac, against the library's."""
    key = SiteKey.load(key_file)
    extracted = hmac.digest(bytes(32), key._key.private_bytes_raw(), "sha256")
    info = b"pixcell-share/derive/v1/tile noise"
    assert key.derive("tile noise") == hmac.digest(extracted, info + b"\x01", "sha256")
    assert key.derive("tile noise") != key.derive("tile order")


def test_repr_does_not_show_the_key(key_file: Path) -> None:
    key = SiteKey.load(key_file)
    assert key._key.private_bytes_raw().hex()[:16] not in repr(key)
    assert key.key_id[:16] in repr(key)


def test_order_is_a_permutation_that_depends_on_the_key() -> None:
    order = shuffled_order(b"k" * 32, 1000)
    assert sorted(order) == list(range(1000))
    assert abs(float((order[1:] - order[:-1] == 1).mean())) < 0.01
    assert not (order == shuffled_order(b"l" * 32, 1000)).all()
    assert shuffled_order(b"k" * 32, 0).shape == (0,)


def test_order_is_pinned_across_versions() -> None:
    assert shuffled_order(b"pinned", 10).tolist() == [7, 1, 0, 2, 8, 9, 5, 6, 3, 4]
