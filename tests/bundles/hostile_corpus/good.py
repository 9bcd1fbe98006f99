"""The good bundle that the hostile ones are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pixcell_share.bundles import AuditResult, AuditTest, SiteKey, write_bundle
from tests.bundles.forging import COHORT, PASSED, make_tiles, sign_anew
from tests.bundles.hostile_shards import COUNT

Tile = tuple[np.ndarray, int]


def write_good(
    folder: Path,
    key: SiteKey,
    *,
    seed: int = 0,
    tiles: Sequence[Tile] | None = None,
    audit: AuditResult = PASSED,
    site: str = COHORT.site,
    shard_bytes: int = 1 << 30,
) -> Path:
    """A small good bundle in one shard; its preview is tiny."""
    held: Iterable[Tile] = list(make_tiles(COUNT, seed)) if tiles is None else tiles
    held = list(held)
    cohort = replace(COHORT, site=site)
    write_bundle(folder, cohort, held, audit, key, count=len(held), shard_bytes=shard_bytes)
    Image.new("RGB", (8, 8), "pink").save(folder / "preview.png")
    sign_anew(folder, key)
    return folder


def changed_audit(name: str, **figures: float) -> AuditResult:
    """The audit with other figures of one test, as another run of it would have."""
    tests = tuple(
        AuditTest(t.name, t.passed, {**t.figures, **figures}, t.limit) if t.name == name else t
        for t in PASSED.tests
    )
    return AuditResult("PASS", tests)
