"""Bad bundles by name: what can be done to one without the key of its site."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixcell_share.bundles import BundleSummary, SiteKey
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.errors import (
    DigestError,
    FormatError,
    SignatureError,
)
from tests.bundles.forging import (
    MANIFEST,
    refusal,
)

FILES = (
    *("audit.dsse.json", "card.md", "croissant.json", "manifest.dsse.json", "preview.png"),
    *("shard-00000.h5", "shard-00001.h5"),
)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_seen_at_any_place(bundle: Path, key: SiteKey, name: str) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == sorted(FILES)
    whole = (bundle / name).read_bytes()
    chance = random.Random(name)
    places = {0, 1, len(whole) // 2, len(whole) - 1, *chance.choices(range(len(whole)), k=12)}
    for place in places:
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << chance.randrange(8)
        (bundle / name).write_bytes(spoiled)
        error = refusal(bundle, key)
        assert name in error.cause
        if name != MANIFEST:
            assert isinstance(error, DigestError)


def test_no_byte_of_the_manifest_file_is_free(good: BundleSummary, key: SiteKey) -> None:
    """The envelope is not covered by the signature, so its form leaves no choice."""
    whole = (good.folder / MANIFEST).read_bytes()
    for place in range(len(whole)):
        for bit in (0, place % 7 + 1):
            spoiled = bytearray(whole)
            spoiled[place] ^= 1 << bit
            with pytest.raises((SignatureError, FormatError)):
                Envelope.from_bytes(bytes(spoiled), MANIFEST).check([key.public], MANIFEST)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(bundle: Path, key: SiteKey, name: str) -> None:
    (bundle / name).unlink()
    error = refusal(bundle, key)
    assert isinstance(error, DigestError)
    assert error.cause == f"{name} is missing"


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "shard-00002.h5", "a\x1b[2J\n"])
def test_an_extra_file(bundle: Path, key: SiteKey, name: str) -> None:
    (bundle / name).write_bytes(b"extra")
    error = refusal(bundle, key)
    assert isinstance(error, DigestError)
    assert "not in the signed list" in error.cause
    assert error.cause.isprintable()


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_and_an_empty_file(bundle: Path, key: SiteKey, name: str) -> None:
    whole = (bundle / name).read_bytes()
    for size in (len(whole) - 1, 0):
        (bundle / name).write_bytes(whole[:size])
        assert name in refusal(bundle, key).cause


def _symlink(bundle: Path) -> None:
    (bundle / "card.md").rename(bundle.parent / "card.md")
    (bundle / "card.md").symlink_to(bundle.parent / "card.md")


def _symlinked_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).rename(bundle.parent / MANIFEST)
    (bundle / MANIFEST).symlink_to(bundle.parent / MANIFEST)


def _folder_for_file(bundle: Path) -> None:
    (bundle / "card.md").unlink()
    (bundle / "card.md").mkdir()


def _pipe(bundle: Path) -> None:
    (bundle / "card.md").unlink()
    os.mkfifo(bundle / "card.md")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_symlink, "card.md is a symbolic link"),
        (_symlinked_manifest, "manifest.dsse.json cannot be read"),
        (_folder_for_file, "card.md is a folder"),
        (_pipe, "card.md is a special file"),
        (lambda bundle: (bundle / "more").mkdir(), "more is a folder"),
    ],
)
def test_what_is_not_a_plain_file(
    bundle: Path, key: SiteKey, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(bundle)
    error = refusal(bundle, key)
    assert isinstance(error, DigestError)
    assert words in error.cause


def test_a_path_that_is_no_folder(good: BundleSummary, key: SiteKey) -> None:
    for path in (good.folder / "card.md", good.folder / "absent"):
        assert isinstance(refusal(path, key), FormatError)


def test_a_gigantic_manifest_is_not_read(bundle: Path, key: SiteKey) -> None:
    with (bundle / MANIFEST).open("r+b") as file:
        file.truncate(1 << 40)
    assert "larger than" in refusal(bundle, key).cause


def test_a_gigantic_card_is_not_hashed(bundle: Path, key: SiteKey) -> None:
    with (bundle / "card.md").open("r+b") as file:
        file.truncate(1 << 40)
    assert "card.md is larger than" in refusal(bundle, key).cause


# Signatures.


def test_a_wrong_key(bundle: Path, key: SiteKey, other_key: SiteKey) -> None:
    for keys in ([other_key], []):
        error = refusal(bundle, *keys)
        assert isinstance(error, SignatureError)
        assert key.key_id in error.cause


def _edit_envelope(bundle: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((bundle / name).read_bytes())
    edit(value)
    (bundle / name).write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda e: e.update(signatures=[]), "has 0 signatures"),
        (lambda e: e.update(signatures=e["signatures"] * 2), "has 2 signatures"),
        (lambda e: e.update(payloadType="text/plain"), "does not hold"),
        (lambda e: e["signatures"][0].update(keyid="0" * 64), "not trusted"),
        (lambda e: e["signatures"][0].update(sig=""), "does not hold"),
        (lambda e: e["signatures"][0].update(sig="A" * 88), "not in canonical|does not hold"),
        (lambda e: e["signatures"][0].update(sig="*"), "signatures.0..sig is not base64"),
        (lambda e: e.update(payload=7), "payload is not a text"),
        (lambda e: e.pop("payload"), "payload is missing"),
    ],
)
def test_a_spoiled_envelope(
    bundle: Path, key: SiteKey, edit: Callable[[dict[str, Any]], object], words: str
) -> None:
    _edit_envelope(bundle, MANIFEST, edit)
    error = refusal(bundle, key)
    assert MANIFEST in error.cause
    assert re.search(words, error.cause), error.cause


def test_a_stranger_adds_a_signature_of_a_trusted_site(
    bundle: Path, key: SiteKey, other_key: SiteKey
) -> None:
    """Two signatures would make it a question which of them counts."""
    payload = Envelope.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST).payload
    second = json.loads(Envelope.sign(payload, other_key).to_bytes())["signatures"][0]
    _edit_envelope(bundle, MANIFEST, lambda e: e["signatures"].append(second))
    assert isinstance(refusal(bundle, key, other_key), SignatureError)


def test_a_signed_payload_of_another_type(bundle: Path, key: SiteKey) -> None:
    payload = Envelope.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST).payload
    (bundle / MANIFEST).write_bytes(Envelope.sign(payload, key, "application/json").to_bytes())
    assert "payloadType" in refusal(bundle, key).cause


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000]
)
def test_a_file_that_is_no_envelope(bundle: Path, key: SiteKey, data: bytes) -> None:
    (bundle / MANIFEST).write_bytes(data)
    assert MANIFEST in refusal(bundle, key).cause
