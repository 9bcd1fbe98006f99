"""Manifest and audit to in-toto statements and back. `docs/formats.md` describes the fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from pixcell_share.bundles._fields import REMEDY, Fields
from pixcell_share.bundles._statement import Statement, read_statement
from pixcell_share.bundles.audit import VERDICTS, AuditResult, AuditTest
from pixcell_share.bundles.cohort import (
    SCHEMA_VERSION,
    Cohort,
    GenerationSettings,
    Manifest,
    Shard,
)
from pixcell_share.bundles.faults import Fault, UnfitError
from pixcell_share.bundles.limits import MAX_SHARD_TILES
from pixcell_share.errors import FormatError
from pixcell_share.files import canonical_json
from pixcell_share.weights import ModelIdentity

MANIFEST_NAME = "manifest.dsse.json"
AUDIT_NAME = "audit.dsse.json"
CARD_NAME = "card.md"
CROISSANT_NAME = "croissant.json"
PREVIEW_NAME = "preview.png"
SIDE_FILES = (AUDIT_NAME, CARD_NAME, CROISSANT_NAME, PREVIEW_NAME)
COHORT_PREDICATE = "urn:pixcell-share:cohort:v1"
AUDIT_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
AUDIT_EXTENSION = "pixcell-share:audit"
"""Our figures in the Test Result: an extension field, as in-toto's parsing rules allow."""
RESULTS = {"PASS": "PASSED", "REFUSE": "FAILED", "INVALID": "FAILED"}
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
_T = TypeVar("_T")


def shard_name(index: int) -> str:
    """The file name of a shard."""
    return f"shard-{index:05d}.h5"


def manifest_statement(manifest: Manifest) -> Statement:
    """The statement that `manifest.dsse.json` signs."""
    cohort = manifest.cohort
    counts = zip(cohort.classes, manifest.class_counts, strict=True)
    predicate = {
        "schema_version": SCHEMA_VERSION,
        "site": {"name": cohort.site, "key_id": manifest.key_id},
        "classes": [{"name": name, "count": count} for name, count in counts],
        "tiles": {
            "count": manifest.count,
            "px": cohort.tile_px,
            "mpp": float(cohort.mpp),
            "dtype": "uint8",
            "layout": "NHWC",
            "colour": "RGB",
        },
        "shards": [asdict(shard) for shard in manifest.shards],
        "models": [asdict(model) for model in cohort.models],
        "generation": asdict(cohort.generation)
        | {"guidance_scale": float(cohort.generation.guidance_scale)},
        "audit": {"sha256": manifest.audit_sha256, "verdict": manifest.audit_verdict},
        "software": {"name": "pixcell-share", "version": manifest.software},
    }
    return Statement(manifest.files, COHORT_PREDICATE, predicate)


def read_manifest(payload: bytes) -> Manifest:
    """Parse a signed manifest.

    Raises:
        FormatError: naming the field that is missing, unknown, or wrong.
    """
    files, top = read_statement(payload, MANIFEST_NAME, COHORT_PREDICATE)
    top.constant("schema_version", SCHEMA_VERSION, Fault.SCHEMA_VERSION_UNKNOWN)
    top.close(
        *("schema_version", "site", "classes", "tiles", "shards", "models"),
        *("generation", "audit", "software"),
    )
    site, tiles, audit = top.object("site"), top.object("tiles"), top.object("audit")
    classes = [_read_class(entry) for entry in top.objects("classes")]
    software = top.object("software")
    software.constant("name", "pixcell-share")
    cohort = _built(
        top,
        lambda: Cohort(
            site=site.text("name"),
            classes=tuple(name for name, _ in classes),
            tile_px=tiles.integer("px"),
            mpp=tiles.number("mpp"),
            models=tuple(_read_model(entry) for entry in top.objects("models")),
            generation=_read_generation(top.object("generation")),
        ),
    )
    manifest = Manifest(
        cohort=cohort,
        class_counts=tuple(count for _, count in classes),
        shards=tuple(_read_shard(entry) for entry in top.objects("shards")),
        audit_sha256=audit.sha256("sha256"),
        audit_verdict=audit.text("verdict"),
        key_id=site.sha256("key_id"),
        software=software.text("version"),
        files=files,
    )
    site.close("name", "key_id")
    audit.close("sha256", "verdict")
    software.close("name", "version")
    if not _VERSION.fullmatch(manifest.software):
        raise software.wrong("version", "is not a version")
    _check_tiles(tiles, manifest)
    _check_shards(top, manifest)
    return manifest


def audit_statement(audit: AuditResult, shards: Sequence[tuple[str, str]]) -> Statement:
    """The Test Result that `audit.dsse.json` signs, about the shards by name and SHA-256."""
    limits = {test.name: dict(test.limit) for test in audit.tests}
    predicate = {
        "result": RESULTS[audit.verdict],
        "configuration": [
            {
                "name": "limits",
                "digest": {"sha256": _digest(limits)},
                "annotations": limits,
            }
        ],
        "passedTests": list(audit.passed),
        "warnedTests": [],
        "failedTests": list(audit.failed),
        AUDIT_EXTENSION: {
            "verdict": audit.verdict,
            "figures": {test.name: dict(test.figures) for test in audit.tests},
        },
    }
    return Statement(tuple(shards), AUDIT_PREDICATE, predicate)


def read_audit(payload: bytes) -> tuple[AuditResult, tuple[tuple[str, str], ...]]:
    """Parse a signed audit: the result, and the shards it is about.

    Raises:
        FormatError: naming the field that is missing, unknown, wrong, or contradicts another.
    """
    subjects, top = read_statement(payload, AUDIT_NAME, AUDIT_PREDICATE)
    top.close(
        *("result", "configuration", "passedTests", "warnedTests", "failedTests"), AUDIT_EXTENSION
    )
    ours = top.object(AUDIT_EXTENSION)
    ours.close("verdict", "figures")
    verdict = next((v for v in VERDICTS if v == ours.any("verdict")), None)
    if verdict is None:
        raise ours.wrong("verdict", f"is not one of {', '.join(VERDICTS)}")
    top.constant("result", RESULTS[verdict], Fault.AUDIT_CONTRADICTS_ITSELF)
    if top.texts("warnedTests"):
        raise top.wrong("warnedTests", "is not empty: a check passes or fails")
    passed, failed = top.texts("passedTests"), top.texts("failedTests")
    limits, figures = _read_limits(top), ours.object("figures")
    names = sorted(passed + failed)
    if names != sorted(figures.values) or names != sorted(limits.values):
        why = "and failedTests do not name the tests of the figures"
        raise top.wrong("passedTests", why, Fault.AUDIT_CONTRADICTS_ITSELF)
    audit = _built(
        top,
        lambda: AuditResult(
            verdict,
            tuple(
                AuditTest(name, name in passed, figures.numbers(name), limits.numbers(name))
                for name in passed + failed
            ),
        ),
    )
    return audit, subjects


def _read_limits(top: Fields) -> Fields:
    entries = list(top.objects("configuration"))
    if len(entries) != 1:
        raise top.wrong("configuration", "does not have exactly one entry")
    entry = entries[0]
    entry.close("name", "digest", "annotations")
    entry.constant("name", "limits")
    limits, digest = entry.object("annotations"), entry.object("digest")
    digest.close("sha256")
    if digest.sha256("sha256") != _digest(limits.values):
        why = "does not match the limits beside it"
        raise entry.wrong("digest", why, Fault.AUDIT_CONTRADICTS_ITSELF)
    return limits


def _read_class(entry: Fields) -> tuple[str, int]:
    entry.close("name", "count")
    return entry.text("name"), entry.integer("count")


def _read_shard(entry: Fields) -> Shard:
    entry.close("name", "count")
    return Shard(entry.text("name"), entry.integer("count", low=1, high=MAX_SHARD_TILES))


def _read_model(entry: Fields) -> ModelIdentity:
    entry.close("role", "name", "source", "revision", "licence", "noncommercial", "sha256")
    texts = {k: entry.text(k) for k in ("role", "name", "source", "revision", "licence")}
    return ModelIdentity(
        **texts, noncommercial=entry.flag("noncommercial"), sha256=entry.sha256("sha256")
    )


def _read_generation(entry: Fields) -> GenerationSettings:
    entry.close("sampler", "steps", "guidance_scale", "per_tile")
    return GenerationSettings(
        sampler=entry.text("sampler"),
        steps=entry.integer("steps"),
        guidance_scale=entry.number("guidance_scale"),
        per_tile=entry.integer("per_tile"),
    )


def _check_tiles(tiles: Fields, manifest: Manifest) -> None:
    tiles.close("count", "px", "mpp", "dtype", "layout", "colour")
    for field, value in (("dtype", "uint8"), ("layout", "NHWC"), ("colour", "RGB")):
        tiles.constant(field, value)
    if tiles.integer("count", low=1) != manifest.count:
        why = "is not the sum of the counts per class"
        raise tiles.wrong("count", why, Fault.COUNTS_DISAGREE)


def _check_shards(top: Fields, manifest: Manifest) -> None:
    names = [shard.name for shard in manifest.shards]
    if names != [shard_name(i) for i in range(len(names))]:
        why = "are not numbered from shard-00000.h5 without a gap"
        raise top.wrong("shards", why, Fault.SHARD_LIST_WRONG)
    if sorted((*names, *SIDE_FILES)) != [name for name, _ in manifest.files]:
        why = "and the fixed files are not the subjects of the statement"
        raise top.wrong("shards", why, Fault.SHARD_LIST_WRONG)
    if sum(shard.count for shard in manifest.shards) != manifest.count:
        why = "do not hold the number of tiles that tiles.count says"
        raise top.wrong("shards", why, Fault.COUNTS_DISAGREE)


def _built(top: Fields, build: Callable[[], _T]) -> _T:
    """Build an object whose own rules speak of settings; here they are a stranger's fields."""
    try:
        return build()
    except UnfitError as error:
        raise FormatError(f"{top.file}: {error.cause}", REMEDY, error.fault) from error


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
