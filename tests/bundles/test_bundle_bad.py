"""Bad bundles by name. Each is refused with the right error, which names the file or field."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pixcell_share.bundles import BundleSummary, SiteKey, verify_bundle, write_bundle
from pixcell_share.bundles._codec import audit_statement, manifest_statement
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.errors import (
    BundleError,
    DigestError,
    FormatError,
    PixcellError,
    SignatureError,
)
from tests.bundles.forging import (
    AUDIT,
    COHORT,
    MANIFEST,
    PASSED,
    make_tiles,
    payload_of,
    sign_anew,
    sign_file,
)

FILES = (
    *("audit.dsse.json", "card.md", "croissant.json", "manifest.dsse.json", "preview.png"),
    *("shard-00000.h5", "shard-00001.h5"),
)


def refusal(bundle: Path, *keys: SiteKey) -> PixcellError:
    """The error that the bundle is refused with; it may not name any path of this machine."""
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle, [key.public for key in keys])
    error = caught.value
    assert error.remedy
    assert str(bundle) not in error.cause + error.remedy
    assert str(Path.cwd()) not in error.cause + error.remedy
    return error


@pytest.fixture
def other_key(tmp_path: Path) -> SiteKey:
    return SiteKey.create(tmp_path / "other.key")


# Raw bytes: what happens without the key.


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


# Parts of other bundles by the same site: every signature holds.


@pytest.fixture
def sibling(key: SiteKey, tmp_path: Path) -> Path:
    tiles = make_tiles(12, seed=5)
    folder = tmp_path / "sibling"
    return write_bundle(folder, COHORT, tiles, PASSED, key, count=12, shard_bytes=85_000).folder


def test_the_manifest_of_another_bundle(bundle: Path, key: SiteKey, sibling: Path) -> None:
    shutil.copy(sibling / MANIFEST, bundle)
    assert isinstance(refusal(bundle, key), DigestError)


def test_the_audit_of_another_bundle(bundle: Path, key: SiteKey, sibling: Path) -> None:
    shutil.copy(sibling / AUDIT, bundle)
    error = refusal(bundle, key)
    assert isinstance(error, DigestError)
    assert AUDIT in error.cause


def test_the_audit_of_another_bundle_signed_for(bundle: Path, key: SiteKey, sibling: Path) -> None:
    other = payload_of(sibling / AUDIT)
    sign_anew(bundle, key, edit_audit=lambda audit: audit.update(subject=other["subject"]))
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert "does not name the shards of this bundle" in error.cause


def test_an_audit_by_another_key(bundle: Path, key: SiteKey, other_key: SiteKey) -> None:
    sign_file(bundle / AUDIT, payload_of(bundle / AUDIT), other_key)
    manifest = payload_of(bundle / MANIFEST)
    audit_digest = hashlib.sha256((bundle / AUDIT).read_bytes()).hexdigest()
    manifest["predicate"]["audit"]["sha256"] = audit_digest
    manifest["subject"][0]["digest"]["sha256"] = audit_digest
    sign_file(bundle / MANIFEST, manifest, key)
    assert isinstance(refusal(bundle, key, other_key), SignatureError)


# Statements: signed by the site, and still wrong.


@pytest.mark.parametrize("verdict", ["REFUSE", "INVALID"])
def test_an_audit_that_did_not_pass(bundle: Path, key: SiteKey, verdict: str) -> None:
    failed = AuditResult(verdict, (AuditTest("near_copies", False, {"near_copies": 3}),))
    statement = json.loads(audit_statement(failed, (("x", "0" * 64),)).to_bytes())

    def edit(audit: dict[str, Any]) -> None:
        audit["predicate"] = statement["predicate"]

    sign_anew(
        bundle,
        key,
        edit_audit=edit,
        edit_manifest=lambda m: m["predicate"]["audit"].update(verdict=verdict),
    )
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert f"the verdict is {verdict}" in error.cause


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def edit(statement: dict[str, Any]) -> None:
        place: Any = statement["predicate"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return edit


def _drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda statement: statement["predicate"].pop(name)


OURS = "pixcell-share:audit"


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (_set("result", to="FAILED"), "result"),
        (_set("result", to="WARNED"), "result"),
        (_set("warnedTests", to=["near_copies"]), "warnedTests"),
        (_set("passedTests", to=["near_copies"]), "passedTests"),
        (_set("passedTests", to=[]), "passedTests"),
        (_set("failedTests", to=["planted_copies"]), "passedTests"),
        (_set("passedTests", to=["near_copies", 7]), r"passedTests[1]"),
        (_set("configuration", 0, "annotations", "near_copies", "pixel_ncc", to=1.0), "digest"),
        (_set("configuration", to=[]), "configuration"),
        (_set(OURS, "verdict", to="FINE"), f"{OURS}.verdict"),
        (_set(OURS, "verdict", to="REFUSE"), "result"),
        (_set(OURS, "figures", "near_copies", "checked", to="many"), "checked"),
        (_set("url", to="https://example.org"), "url"),
        (_drop(OURS), OURS),
    ],
)
def test_an_audit_that_contradicts_itself(
    bundle: Path, key: SiteKey, edit: Callable[[dict[str, Any]], None], field: str
) -> None:
    sign_anew(bundle, key, edit_audit=edit)
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert AUDIT in error.cause
    assert field in error.cause


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (_set("schema_version", to=2), "schema_version"),
        (_set("schema_version", to=True), "schema_version"),
        (_set("site", "name", to="<script>alert(1)</script>"), "site"),
        (_set("site", "name", to="a\x1b[2Jb"), "site"),
        (_set("site", "key_id", to="0" * 64), "site.key_id"),
        (_set("site", "key_id", to="short"), "site.key_id"),
        (_set("classes", 0, "count", to=5), "tiles.count"),
        (_set("classes", 0, "count", to=-1), "classes[0].count"),
        (_set("classes", 0, "count", to=6.0), "classes[0].count"),
        (_set("classes", 0, "name", to="tumour"), "classes"),
        (_set("classes", to=[]), "classes"),
        (_set("tiles", "count", to=13), "tiles.count"),
        (_set("tiles", "px", to=10**9), "tile_px"),
        (_set("tiles", "mpp", to="0.5"), "tiles.mpp"),
        (_set("tiles", "mpp", to=0), "mpp"),
        (_set("tiles", "dtype", to="float64"), "tiles.dtype"),
        (_set("shards", 0, "name", to="../shard-00000.h5"), "shards"),
        (_set("shards", 0, "count", to=1), "shards"),
        (_set("shards", to=[]), "shards"),
        (_set("models", to=[]), "models"),
        (_set("models", 0, "source", to="/home/someone/weights"), "models.source"),
        (_set("models", 0, "sha256", to="AB" * 32), "models[0].sha256"),
        (_set("models", 0, "noncommercial", to="no"), "models[0].noncommercial"),
        (_set("generation", "steps", to=0), "generation.steps"),
        (_set("audit", "verdict", to="REFUSE"), "audit.verdict"),
        (_set("audit", "sha256", to="0" * 64), "audit.sha256"),
        (_set("software", "name", to="other"), "software.name"),
        (_set("software", "version", to="1\n2"), "software.version"),
        (_set("extra", to=1), "extra"),
        (_set("tiles", "extra", to=1), "tiles.extra"),
        (_drop("models"), "models"),
        (lambda m: m.update(predicateType="https://slsa.dev/provenance/v1"), "predicateType"),
        (lambda m: m.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (lambda m: m["subject"].reverse(), "subject"),
        (lambda m: m["subject"].append(m["subject"][-1]), "subject"),
        (lambda m: m["subject"][0]["digest"].update(sha256="x"), "subject[0].digest.sha256"),
        (lambda m: m["subject"][0]["digest"].update(md5="x"), "subject[0].digest.md5"),
    ],
)
def test_a_manifest_field_that_is_wrong(
    bundle: Path, key: SiteKey, edit: Callable[[dict[str, Any]], object], field: str
) -> None:
    sign_anew(bundle, key, edit_manifest=edit)
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert MANIFEST in error.cause
    assert field in error.cause


def test_an_extra_file_that_is_signed_for(bundle: Path, key: SiteKey) -> None:
    (bundle / "extra.bin").write_bytes(b"x")
    sign_anew(bundle, key)
    assert "shards and the fixed files" in refusal(bundle, key).cause


def test_a_file_name_that_points_elsewhere(bundle: Path, key: SiteKey) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["subject"].insert(0, {"name": "../key", "digest": {"sha256": "0" * 64}})

    sign_anew(bundle, key, edit_manifest=edit)
    assert refusal(bundle, key).cause == "../key is missing"


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"_type":1,"_type":2}', "a key is repeated"),
        (b'{"_type":NaN}', "NaN is not a JSON number"),
        (b'{"_type":-Infinity}', "Infinity is not"),
        (b'{"_type":1e999}', "too large"),
        (b'{"_type":' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"_type":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested more than 16"),
        (b'["]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",' + b"[" * 40 + b"]" * 40 + b"]", "nested more"),
        (b'{"_type":"\xff"}', "not UTF-8"),
        (b'{"_type":"' + "\ud800".encode("utf-8", "surrogatepass") + b'"}', "not UTF-8"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
        (b"[]", "is not an object"),
    ],
)
def test_a_signed_payload_that_is_not_strict_json(
    bundle: Path, key: SiteKey, payload: bytes, words: str
) -> None:
    sign_file(bundle / MANIFEST, payload, key)
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert words in error.cause


def test_a_preview_with_hidden_text(bundle: Path, key: SiteKey) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Source", "/wsi/patient-1.svs")
    Image.new("RGB", (8, 8)).save(bundle / "preview.png", pnginfo=note)
    sign_anew(bundle, key)
    assert "preview.png has a tEXt chunk" in refusal(bundle, key).cause


def test_a_preview_with_bytes_after_its_end(bundle: Path, key: SiteKey) -> None:
    with (bundle / "preview.png").open("ab") as file:
        file.write(b"hidden")
    sign_anew(bundle, key)
    assert "bytes after its end" in refusal(bundle, key).cause


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0"]
)
def test_a_preview_that_is_no_png(bundle: Path, key: SiteKey, data: bytes) -> None:
    (bundle / "preview.png").write_bytes(data)
    sign_anew(bundle, key)
    assert "preview.png" in refusal(bundle, key).cause


def test_a_croissant_that_is_no_strict_json(bundle: Path, key: SiteKey) -> None:
    (bundle / "croissant.json").write_text('{"name":"a","name":"b"}')
    sign_anew(bundle, key)
    assert "croissant.json" in refusal(bundle, key).cause


def test_the_forger_signs_good_bundles_too(bundle: Path, key: SiteKey) -> None:
    """Else the tests above could pass for a fault of the forger."""
    sign_anew(bundle, key)
    assert verify_bundle(bundle, [key.public]).manifest.count == 12


def test_statements_come_back_as_they_were(good: BundleSummary) -> None:
    statement = json.loads(manifest_statement(good.manifest).to_bytes())
    assert statement == payload_of(good.folder / MANIFEST)
