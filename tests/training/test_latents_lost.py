"""A slide that breaks while it is read: what was read stays, the rest is counted as lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.training.latents import LatentStore
from pixcell_share.training.latents import make as making
from pixcell_share.training.latents.entries import Corners, Entry, Picture, Survey
from pixcell_share.training.latents.split import Holdout
from tests.tiny import make_tiny_model
from tests.training.latents_pictures import make

_REGIONS = 9


class BreakingSource:
    """Two slides of nine regions; ``b`` cannot be read from region ``breaks`` on."""

    unit = "slides"
    mpp: float | None = 0.5

    def __init__(self, folder: Path, breaks: int) -> None:
        self._breaks = breaks
        self.entries = tuple(Entry(name, folder / name, name) for name in ("a", "b", "c"))

    def survey(self, entry: Entry) -> Survey:
        corners = np.stack([np.arange(_REGIONS) * 256, np.zeros(_REGIONS)], axis=1)
        return Survey(corners.astype(np.int64), {"candidates": _REGIONS, "kept": _REGIONS})

    def read(self, entry: Entry, corners: Corners) -> Iterator[Picture]:
        for x, _ in corners:
            number = int(x) // 256
            if entry.name == "b" and number >= self._breaks:
                raise SlideUnreadableError("b is damaged", "copy it again")
            seed = [ord(entry.name), number]
            yield np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", input_px=32)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Its one number says from which region on slide ``b`` is damaged."""
    at = [_REGIONS]
    monkeypatch.setattr(making, "open_source", lambda _: BreakingSource(tmp_path, at[0]))
    return at


def stored(folder: Path) -> set[tuple[str, str]]:
    store = LatentStore.open(folder)
    rows = [row for split in ("train", "holdout") for row in store.index(split)]
    assert len(rows) == len({(row.slide, row.x) for row in rows}), "a region is stored twice"
    return {(row.slide, str(int(row.x) // 256)) for row in rows}


def test_what_was_read_stays(model: Path, tmp_path: Path, breaking: list[int]) -> None:
    breaking[0] = 4
    made = make(tmp_path / "store", model, slides=tmp_path)
    assert made.exit_code == 3 and made.used == 3 and not made.left_out
    assert [entry["name"] for entry in made.partly_lost] == ["b"]
    assert sum(made.rows.values()) == 2 * _REGIONS + 4
    assert {number for name, number in stored(made.store) if name == "b"} == set("0123")


@pytest.mark.parametrize("by", ["slide", "patch"])
def test_lost_after_a_stop(model: Path, tmp_path: Path, breaking: list[int], by: str) -> None:
    """The slide breaks between two runs: rows of whole shards stay, none is taken twice."""
    more = {"slides": tmp_path, "holdout": Holdout(0.3, by), "shard_mb": 0.13}
    first = make(tmp_path / "store", model, **more)
    assert sum(first.rows.values()) == 3 * _REGIONS
    whole = LatentStore.open(first.store)
    for split in ("train", "holdout"):
        shards = whole.shard_rows(split)
        keep = len(shards) // 2
        for number in range(keep, len(shards)):
            for path in first.store.glob(f"{split}-{number:05d}.*"):
                path.unlink()
    value = json.loads((first.store / "store.json").read_text())
    (first.store / "store.json").write_text(json.dumps({**value, "shards": None}))
    kept = LatentStore.open(first.store, on_bad="skip", say=lambda _: None)
    held = {(row.slide, row.x) for split in ("train", "holdout") for row in kept.index(split)}

    breaking[0] = 0
    made = make(tmp_path / "store", model, **more)
    b_kept = sum(slide == "b" for slide, _ in held)
    assert made.exit_code == (3 if b_kept < _REGIONS else 0)
    assert sum(made.rows.values()) == 2 * _REGIONS + b_kept
    assert {(name, str(n)) for name in "ac" for n in range(_REGIONS)} <= stored(made.store)
    assert make(tmp_path / "store", model, **more).status == "nothing to do"
