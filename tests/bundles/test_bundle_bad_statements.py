"""Bad bundles by name: properly signed, by a site that is wrong or was robbed of its key."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pixcell_share.bundles import BundleSummary, Fault, SiteKey, verify_bundle, write_bundle
from pixcell_share.bundles._codec import audit_statement, manifest_statement
from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.errors import (
    DigestError,
    FormatError,
    SignatureError,
)
from tests.bundles.forging import (
    AUDIT,
    COHORT,
    MANIFEST,
    PASSED,
    make_tiles,
    payload_of,
    refusal,
    sign_anew,
    sign_file,
)

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
    assert refusal(bundle, key).reason == Fault.SUBJECTS_WRONG


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
