"""The other side: a site that writes good bundles, and one that signs bad ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pixcell_share.bundles import (
    REQUIRED_TESTS,
    AuditResult,
    AuditTest,
    Cohort,
    GenerationSettings,
    SiteKey,
    verify_bundle,
)
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.errors import BundleError, PixcellError
from pixcell_share.files import canonical_json
from pixcell_share.weights import ModelIdentity

TILE_PX = 32
MANIFEST, AUDIT = "manifest.dsse.json", "audit.dsse.json"
GENERATOR = ModelIdentity(
    role="generator",
    name="PixCell-256",
    source="StonyBrook-CVLab/PixCell-256",
    revision="0123456789abcdef",
    licence="CC-BY-NC-4.0",
    noncommercial=True,
    sha256="ab" * 32,
)
COHORT = Cohort(
    site="Uniklinik Köln",
    classes=("normal", "tumour"),
    tile_px=TILE_PX,
    mpp=0.5,
    models=(GENERATOR,),
    generation=GenerationSettings("dpm-solver++", steps=20, guidance_scale=2.0, per_tile=1),
)
FIGURES: dict[str, tuple[dict[str, float | int], dict[str, float | int]]] = {
    "near_copies": ({"near_copies": 0, "checked": 12}, {"pixel_ncc": 0.9}),
    "planted_copies": ({"caught": 20, "planted": 20}, {"caught_min": 19}),
    "patient_linkage": (
        {"residual": 0.02, "residual_low": 0.0, "residual_high": 0.08, "detectable": 0.04},
        {"residual": 0.1},
    ),
    "budget": ({"private": 0, "releases": 1, "sequence": 3}, {"releases": 3}),
}
PASSED = AuditResult(
    "PASS",
    tuple(
        AuditTest(name, True, *FIGURES.get(name, ({}, {})))
        for name in ("near_copies", *REQUIRED_TESTS)
    ),
)


def without(*names: str, audit: AuditResult = PASSED) -> AuditResult:
    """``audit`` cut: some tests are gone."""
    return AuditResult(audit.verdict, tuple(t for t in audit.tests if t.name not in names))


def make_tiles(count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, int]]:
    """Noise tiles; the labels alternate."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        image = generator.integers(0, 256, (TILE_PX, TILE_PX, 3), dtype=np.uint8)
        yield image, i % len(COHORT.classes)


def payload_of(path: Path) -> dict[str, Any]:
    """The statement in an envelope file."""
    return json.loads(Envelope.from_bytes(path.read_bytes(), path.name).payload)


def sign_file(path: Path, statement: dict[str, Any] | bytes, key: SiteKey) -> None:
    """Sign whatever the caller likes."""
    payload = statement if isinstance(statement, bytes) else canonical_json(statement)
    path.write_bytes(Envelope.sign(payload, key).to_bytes())


def sign_anew(
    folder: Path,
    key: SiteKey,
    *,
    edit_manifest: Callable[[dict[str, Any]], object] = lambda _: None,
    edit_audit: Callable[[dict[str, Any]], object] = lambda _: None,
) -> None:
    """Sign a changed bundle properly: all digests are right, only the content is hostile."""
    audit = payload_of(folder / AUDIT)
    audit["subject"] = _subjects(folder, lambda name: name.endswith(".h5"))
    edit_audit(audit)
    sign_file(folder / AUDIT, audit, key)
    manifest = payload_of(folder / MANIFEST)
    manifest["subject"] = _subjects(folder, lambda name: name != MANIFEST)
    manifest["predicate"]["audit"]["sha256"] = _sha256(folder / AUDIT)
    edit_manifest(manifest)
    sign_file(folder / MANIFEST, manifest, key)


def write_shard(
    path: Path,
    *,
    add: Callable[[h5py.File], object] = lambda _: None,
    count: int = 6,
    images: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
) -> None:
    """A shard by plain h5py, good unless the arguments for its datasets say otherwise."""
    pixels, numbers = zip(*make_tiles(count), strict=True)
    with h5py.File(path, "w") as file:
        _dataset(file, "images", {"data": np.stack(pixels)} | (images or {}))
        _dataset(file, "labels", {"data": np.array(numbers, dtype="<i8")} | (labels or {}))
        if "images" in file:
            file["images"].attrs["mpp"] = COHORT.mpp
        if "labels" in file:
            names = np.array([name.encode() for name in COHORT.classes])
            file["labels"].attrs["classes"] = names
        add(file)


def _dataset(file: h5py.File, name: str, arguments: dict[str, Any]) -> None:
    if "shape" in arguments:
        arguments = {**arguments, "data": None}
    if not arguments.pop("skip", False):
        file.create_dataset(name, **arguments)


def _subjects(folder: Path, wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    names = sorted(path.name for path in folder.iterdir() if wanted(path.name))
    return [{"name": name, "digest": {"sha256": _sha256(folder / name)}} for name in names]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(bundle: Path, *keys: SiteKey) -> PixcellError:
    """The error that the bundle is refused with; it may not name any path of this machine."""
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle, [key.public for key in keys])
    error = caught.value
    assert error.remedy
    assert str(bundle) not in error.cause + error.remedy
    assert str(Path.cwd()) not in error.cause + error.remedy
    return error
