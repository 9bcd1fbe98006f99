from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcell_share.bundles.audit import AuditResult
from pixcell_share.privacy import (
    ControlResult,
    NearCopySettings,
    PlantedKind,
    Share,
    first_checks,
)
from pixcell_share.weights import ModelIdentity
from site_agent.report.charts import StageTime, histogram, time_bars
from site_agent.report.page import Balance, ClosePair, Pair, Report, SlideRow, write_report

LIMITS = NearCopySettings()
MARKUP = '<script>alert("x")</script>'


class Page(HTMLParser):
    """What is on a page: open elements, attributes, visible text, pictures."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def tile(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def control(caught: int = 32) -> ControlResult:
    kind = PlantedKind("exact", Share(caught, 32), Share(30, 32))
    return ControlResult((kind,), 0.99, encoder_limit=0.995, examined=40, featureless=8)


def report(**changed) -> Report:
    pixels, encoder = np.array([0.2, 0.3, 0.5]), np.array([0.7, 0.8, 0.9])
    values = {
        "site": "Example Hospital",
        "audit": first_checks(pixels, encoder, control(), LIMITS),
        "control": control(),
        "limits": LIMITS,
        "encoder": "nano",
        "real_tiles": 1234,
        "bundle": "ab" * 32,
        "settings": [("model", "nano")],
        "software": [("torch", "2.15.0")],
        "models": [
            ModelIdentity(
                "generator", "pixcell-256", "owner/name", "abc", "CC-BY-NC-4.0", True, "cd" * 32
            )
        ],
        "balances": [Balance(name="slides found", total=3, parts=(("used", 2), ("left out", 1)))],
        "own_patients": True,
        "slides": [
            SlideRow(slide_id="first", case_id=None, label="tumour", mpp=0.25, mpp_source="file"),
            SlideRow(slide_id="dark", case_id=None, label=None, reason="no tissue", remedy="look"),
        ],
        "pairs": [Pair(slide_id="first", x=1, y=2, real=tile(0), synthetic=(tile(1), tile(2)))],
        "closest_in_pixels": [
            ClosePair(synthetic=tile(3), real=tile(4), slide_id="first", x=0, y=0, score=0.5)
        ],
        "closest_in_encoder": [],
        "pixel_scores": pixels,
        "encoder_scores": encoder,
        "times": [StageTime("read", 1.0, 10), StageTime("generate", 3.0, 10)],
    }
    return Report(**{**values, **changed})


def written(folder: Path, **changed) -> Page:
    write_report(folder / "report.html", report(**changed))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_verdict_comes_first_with_its_figures(tmp_path):
    words = written(tmp_path).words
    assert words.index("The first checks passed") < words.index("Counts")
    assert "None of the 3 released tiles" in words
    assert "1 234 real tiles" in words
    assert "Of 32 copies that were planted on purpose, 32 were noticed." in words


@pytest.mark.parametrize(
    ("pixels", "caught", "expected"),
    [
        ([0.2, 0.8], 32, "1 (in pixels) and 0 (in the encoder) of the 2 synthetic tiles"),
        ([0.2, 0.3], 20, "Only 20 of 32 copies that were planted on purpose were noticed."),
        ([], 32, "No synthetic tile was left to release."),
    ],
)
def test_a_verdict_other_than_pass_says_why_and_that_nothing_was_signed(
    tmp_path, pixels, caught, expected
):
    scores = np.array(pixels)
    found = control(caught)
    audit = first_checks(scores, np.zeros(len(scores)), found, LIMITS)
    words = written(tmp_path, audit=audit, control=found, bundle=None, pixel_scores=scores).words
    assert expected in words
    assert "othing was signed" in words
    assert "The first checks passed" not in words


def test_a_run_without_checks_says_so(tmp_path):
    words = written(tmp_path, audit=None, control=None, bundle=None).words
    assert "The privacy checks did not run. Nothing was signed" in words


def test_nothing_is_loaded_and_nothing_runs(tmp_path):
    page = written(tmp_path)
    sources = [value for _, at in page.elements for key, value in at.items() if key == "src"]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(at["href"].startswith("#") for at in page.all("a"))
    assert not page.all("script")
    assert not page.all("link")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:|\son\w+=", text)
    policies = [at.get("content") for at in page.all("meta")]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies


def test_links_inside_the_page_lead_somewhere(tmp_path):
    page = written(tmp_path)
    targets = {at["id"] for _, at in page.elements if "id" in at}
    assert {at["href"].removeprefix("#") for at in page.all("a")} <= targets


def test_markup_in_names_is_shown_and_not_obeyed(tmp_path):
    slide = SlideRow(slide_id=MARKUP, case_id=MARKUP, label=MARKUP, notes=(MARKUP,))
    out = SlideRow(slide_id=MARKUP, case_id=None, label=None, reason=MARKUP, remedy=MARKUP)
    quoted = '" onerror="alert(1)'
    page = written(
        tmp_path,
        site=MARKUP,
        slides=[slide, out, replace(slide, slide_id=quoted, thumbnail=tile(5))],
        settings=[(MARKUP, MARKUP)],
        pairs=[Pair(slide_id=quoted, x=0, y=0, real=tile(1), synthetic=(tile(2),))],
    )
    assert not page.all("script")
    assert not any("onerror" in at for at in page.all("img"))
    assert page.words.count(MARKUP) >= 9


def test_words_that_promise_too_much_never_appear(tmp_path):
    audits: list[AuditResult | None] = [None]
    for pixels, caught in (([0.1], 32), ([0.9], 32), ([0.1], 3)):
        audits.append(first_checks(np.array(pixels), np.array([0.1]), control(caught), LIMITS))
    for audit in audits:
        words = written(tmp_path, audit=audit).words.lower()
        assert not re.search(r"anonym|safe|harmless|guarantee|de-?identif", words)


def test_it_says_that_it_is_private(tmp_path):
    page = written(tmp_path)
    assert page.words.split("  ")[0].startswith("Private report, Example Hospital PRIVATE: shows")
    assert page.all("html") == [{"lang": "en"}]


def test_every_picture_has_words_and_is_the_tile(tmp_path):
    page = written(tmp_path)
    pictures = page.all("img")
    assert len(pictures) == 5
    assert all(picture["alt"] for picture in pictures)
    smooth = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, np.ones((8, 8, 3)))
    smooth = smooth.astype(np.uint8)
    pair = Pair(slide_id="first", x=0, y=0, real=smooth, synthetic=())
    (shown,) = written(tmp_path, pairs=[pair], closest_in_pixels=[]).all("img")
    data = base64.b64decode(shown["src"].removeprefix("data:image/jpeg;base64,"))
    difference = np.asarray(Image.open(io.BytesIO(data))).astype(int) - smooth
    assert np.abs(difference).mean() < 3


def test_large_pictures_are_made_smaller(tmp_path):
    slide = SlideRow(slide_id="first", case_id=None, label=None, thumbnail=tile(0, 1500))
    page = written(tmp_path, slides=[slide], pairs=[], closest_in_pixels=[])
    (shown,) = page.all("img")
    data = base64.b64decode(shown["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (640, 640)


def test_the_closest_pair_is_shown_as_it_lies_on_the_real_tile(tmp_path):
    real = np.kron(tile(7, 16), np.ones((4, 4, 1))).astype(np.uint8)
    pair = ClosePair(synthetic=np.rot90(real), real=real, slide_id="first", x=0, y=0, score=1.0)
    page = written(tmp_path, pairs=[], closest_in_pixels=[pair])
    shown = [picture["src"] for picture in page.all("img")]
    assert shown[0] == shown[1]
    assert "turned: rotate 270" in page.words


def test_a_raised_limit_of_the_encoder_is_explained(tmp_path):
    note = "That is the limit in the encoder, instead of the site's 0.99"
    assert note in written(tmp_path).words
    usual = replace(control(), encoder_limit=0.99)
    assert note not in written(tmp_path, control=usual).words


def test_left_out_slides_keep_their_reason_and_remedy(tmp_path):
    words = written(tmp_path).words
    assert "no tissue look left out" in words


def test_counts_that_do_not_add_up_are_not_hidden(tmp_path):
    assert "does not add up" not in written(tmp_path).words
    wrong = [Balance(name="tiles found", total=5, parts=(("embedded", 4),))]
    assert "does not add up" in written(tmp_path, balances=wrong).words


def test_slides_that_stand_for_patients_are_called_so(tmp_path):
    note = "each slide counts as a patient of its own"
    assert note in written(tmp_path).words
    assert note not in written(tmp_path, own_patients=False).words


def test_pictures_are_read_one_at_a_time(tmp_path):
    """Each pair is asked for only when the one before has been written."""
    alive: set[int] = set()
    most = []

    class Watched(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def pairs():
        for number in range(12):
            real = tile(number).view(Watched)
            alive.add(id(real))
            most.append(len(alive))
            yield Pair(slide_id="first", x=0, y=0, real=real, synthetic=())
            del real

    written(tmp_path, pairs=pairs())
    assert len(most) == 12
    assert max(most) <= 3


def test_the_same_report_gives_the_same_bytes(tmp_path):
    write_report(tmp_path / "a.html", report())
    write_report(tmp_path / "b.html", report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_empty_run_can_be_reported(tmp_path):
    page = written(
        tmp_path,
        audit=None,
        control=None,
        bundle=None,
        slides=[],
        pairs=[],
        closest_in_pixels=[],
        pixel_scores=np.empty(0),
        encoder_scores=np.empty(0),
        times=[],
    )
    assert "No time was measured." in page.words


def test_histogram_counts_every_score_and_marks_those_at_the_limit():
    scores = np.array([0.12, 0.12, 0.5, 0.75, 0.999, 1.0])
    chart = histogram(scores, 0.75)
    assert sum(column.count for column in chart.columns) == 6
    assert chart.over == 3
    assert max(column.height for column in chart.columns) == 1.0
    assert histogram(np.empty(0), 0.75) is None
    flat = histogram(np.full(9, 1.0), 0.99)
    assert [(column.count, column.over) for column in flat.columns] == [(9, True)]


def test_time_bars_fill_the_width():
    bars = time_bars([StageTime("read", 1.0, 10), StageTime("generate", 3.0, 5)])
    assert [(bar.left, bar.share) for bar in bars] == [(0.0, 0.25), (0.25, 0.75)]
    assert bars[1].stage.rate == pytest.approx(5 / 3)
    assert time_bars([StageTime("read", 0.0, 0)]) == []
