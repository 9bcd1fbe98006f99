"""What goes with the tiles: card, Croissant metadata, preview."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pixcell_share.bundles import BundleSummary
from pixcell_share.bundles._card import render_card
from pixcell_share.bundles._preview import CELL_PX, COLUMNS, GAP_PX, ROWS, ContactSheet
from tests.bundles.forging import COHORT, GENERATOR, PASSED, make_tiles


def test_the_card_says_what_it_must(good: BundleSummary) -> None:
    card = (good.folder / "card.md").read_text(encoding="utf-8")
    for words in (
        "12 synthetic pathology tiles, 32 x 32 px at 0.5 µm/px",
        "Uniklinik Köln",
        "| normal | 6 |",
        "| tumour | 6 |",
        "StonyBrook-CVLab/PixCell-256",
        "CC-BY-NC-4.0 (no commercial use)",
        "**no commercial use**",
        "guidance scale 2.0",
        "| near_copies | passed | near_copies 0, checked 12 | pixel_ncc 0.9 |",
        "evidence, not a guarantee",
        "never for diagnosis",
    ):
        assert words in card


def test_no_text_promises_what_nobody_can(good: BundleSummary) -> None:
    for name in ("card.md", "croissant.json"):
        text = (good.folder / name).read_text(encoding="utf-8").lower()
        assert not re.search(r"anonym|\bsafe|de-identified|privacy-preserving|\bhipaa", text)


def test_commercial_weights_carry_no_ban() -> None:
    free = replace(GENERATOR, noncommercial=False, licence="Apache-2.0")
    card = render_card(replace(COHORT, models=(free,)), [1, 1], PASSED)
    assert "no commercial use" not in card
    assert "Apache-2.0" in card


def test_a_name_cannot_become_markup() -> None:
    hostile = replace(GENERATOR, licence="x | y [a](http://b) <img> *z*")
    card = render_card(replace(COHORT, models=(hostile,)), [1, 1], PASSED)
    assert "x \\| y \\[a\\]\\(http://b\\) &lt;img&gt; \\*z\\*" in card


def test_mlcroissant_finds_nothing_wrong_and_asks_no_network(
    good: BundleSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="needs the extra `peers`")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    dataset = mlcroissant.Dataset(good.folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # A bundle holds no time of any kind, so the recommended date is left out on purpose.
    assert [w for w in issues.warnings if "datePublished" not in w] == []
    described = {item.name: item.sha256 for item in dataset.metadata.distribution}
    assert described == {
        name: sha for name, sha in good.manifest.files if name[0] in "sp" or name == "card.md"
    }


def test_croissant_declares_synthetic_data(good: BundleSummary) -> None:
    metadata = json.loads((good.folder / "croissant.json").read_bytes())
    assert metadata["rai:hasSyntheticData"] is True
    assert "http://mlcommons.org/croissant/1.1" in metadata["conformsTo"]
    assert metadata["license"] == ["CC-BY-NC-4.0"]
    assert all("/" not in item["contentUrl"] for item in metadata["distribution"])


def test_the_preview_shows_the_tiles_and_nothing_else(good: BundleSummary) -> None:
    data = (good.folder / "preview.png").read_bytes()
    chunks = re.findall(rb"(IHDR|IDAT|IEND|tEXt|iTXt|zTXt|tIME|pHYs|eXIf|iCCP)", data)
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    sheet = np.asarray(Image.open(BytesIO(data)))
    first, _ = next(make_tiles(1))
    expected = Image.fromarray(first).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(sheet[:CELL_PX, :CELL_PX], np.asarray(expected))


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (6, (6, 1)), (7, (6, 2)), (99, (6, 4))])
def test_the_sheet_has_as_many_cells_as_it_needs(count: int, shape: tuple[int, int]) -> None:
    sheet = ContactSheet()
    for tile, _ in make_tiles(count):
        sheet.add(tile)
    size = Image.open(BytesIO(sheet.to_png())).size
    assert size == tuple(n * (CELL_PX + GAP_PX) - GAP_PX for n in shape)
    assert shape <= (COLUMNS, ROWS)
