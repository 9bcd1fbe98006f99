"""A small good bundle, and the key that signed it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pixcell_share.bundles import BundleSummary, SiteKey, write_bundle
from tests.bundles.forging import COHORT, PASSED, make_tiles


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("key") / "site.key")


@pytest.fixture(scope="session")
def good(key: SiteKey, tmp_path_factory: pytest.TempPathFactory) -> BundleSummary:
    """12 tiles of 32 px in two shards. Not to be changed: see `bundle`."""
    folder = tmp_path_factory.mktemp("good") / "bundle"
    tiles = make_tiles(12)
    return write_bundle(folder, COHORT, tiles, PASSED, key, count=12, shard_bytes=85_000)


@pytest.fixture
def bundle(good: BundleSummary, tmp_path: Path) -> Path:
    """A copy of the good bundle that a test may spoil."""
    return Path(shutil.copytree(good.folder, tmp_path / "bundle"))


@pytest.fixture
def other_key(tmp_path: Path) -> SiteKey:
    return SiteKey.create(tmp_path / "other.key")
