from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.weights import ModelIdentity
from site_agent.report.charts import StageTime, histogram, time_bars
from site_agent.report.page import Balance, Pair, Report, SlideRow, write_report
from tests.site_agent.pages import Page, tile

MARKUP = '<script>alert("x")</script>'


def audit(verdict: str, *, caught: int = 32, residual: float = 0.02) -> AuditResult:
    planted = {
        "planted": 32, "caught": caught, "caught_by_encoder": 30,
        "interval_low": 0.8, "interval_high": 1.0,
    }  # fmt: skip
    linkage = {"residual": residual, "residual_low": 0.0, "residual_high": 0.08}
    tests = (
        AuditTest("planted_copies", caught == 32, planted, {"share": 0.99}),
        AuditTest("second_encoder", True),
        AuditTest("patient_linkage", residual <= 0.1, linkage, {"residual": 0.1}),
    )
    return AuditResult(verdict, tests)


def report(**changed) -> Report:
    values = {
        "site": "Example Hospital",
        "audit": audit("PASS"),
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
        "pairs": [Pair(caption="first at 1, 2", real=(tile(0),), synthetic=(tile(1), tile(2)))],
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
    assert words.index("The cohort passed the audit") < words.index("Counts")
    assert "Every limit of the site held, in 3 tests." in words
    assert "Of 32 copies planted on purpose, 32 were noticed." in words
    assert "2 % (95 % interval 0 to 8 %) of the patients" in words


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (audit("REFUSE", residual=0.25), "25 % of the patients are linked to the cohort"),
        (audit("INVALID", caught=20), "Only 62.5 % of the copies that were planted on purpose"),
        (None, "The audit did not run."),
    ],
)
def test_a_verdict_other_than_pass_says_why_and_that_nothing_was_signed(tmp_path, found, expected):
    words = written(tmp_path, audit=found, bundle=None).words
    assert expected in words
    assert "Nothing was signed" in words
    assert "passed the audit" not in words


def test_the_audit_has_a_page_of_its_own(tmp_path):
    page = written(tmp_path)
    assert {at["href"] for at in page.all("a") if not at["href"].startswith("#")} == {"audit.html"}
    assert "audit.html" not in written(tmp_path, audit=None, bundle=None).words


def test_nothing_is_loaded_and_nothing_runs(tmp_path):
    page = written(tmp_path)
    sources = [value for _, at in page.elements for key, value in at.items() if key == "src"]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(at["href"].startswith("#") or at["href"] == "audit.html" for at in page.all("a"))
    assert not page.all("script")
    assert not page.all("link")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:|\son\w+=", text)
    policies = [at.get("content") for at in page.all("meta")]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies


def test_links_inside_the_page_lead_somewhere(tmp_path):
    page = written(tmp_path)
    targets = {at["id"] for _, at in page.elements if "id" in at}
    links = {at["href"] for at in page.all("a")} - {"audit.html"}
    assert {link.removeprefix("#") for link in links} <= targets


def test_markup_in_names_is_shown_and_not_obeyed(tmp_path):
    slide = SlideRow(slide_id=MARKUP, case_id=MARKUP, label=MARKUP, notes=(MARKUP,))
    out = SlideRow(slide_id=MARKUP, case_id=None, label=None, reason=MARKUP, remedy=MARKUP)
    quoted = '" onerror="alert(1)'
    page = written(
        tmp_path,
        site=MARKUP,
        slides=[slide, out, replace(slide, slide_id=quoted, thumbnail=tile(5))],
        settings=[(MARKUP, MARKUP)],
        pairs=[Pair(caption=quoted, real=(tile(1),), synthetic=(tile(2),))],
    )
    assert not page.all("script")
    assert not any("onerror" in at for at in page.all("img"))
    assert page.words.count(MARKUP) >= 9


def test_words_that_promise_too_much_never_appear(tmp_path):
    found = [None, audit("PASS"), audit("REFUSE", residual=0.5), audit("INVALID", caught=3)]
    for verdict in found:
        words = written(tmp_path, audit=verdict).words.lower()
        assert not re.search(r"anonym|safe|harmless|guarantee|de-?identif", words)


def test_it_says_that_it_is_private(tmp_path):
    page = written(tmp_path)
    assert page.words.split("  ")[0].startswith("Private report, Example Hospital PRIVATE: shows")
    assert page.all("html") == [{"lang": "en"}]


def test_every_picture_has_words_and_is_the_tile(tmp_path):
    page = written(tmp_path)
    pictures = page.all("img")
    assert len(pictures) == 3
    assert all(picture["alt"] for picture in pictures)
    smooth = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, np.ones((8, 8, 3)))
    smooth = smooth.astype(np.uint8)
    pair = Pair(caption="first at 0, 0", real=(smooth,), synthetic=())
    (shown,) = written(tmp_path, pairs=[pair]).all("img")
    data = base64.b64decode(shown["src"].removeprefix("data:image/jpeg;base64,"))
    difference = np.asarray(Image.open(io.BytesIO(data))).astype(int) - smooth
    assert np.abs(difference).mean() < 3


def test_large_pictures_are_made_smaller(tmp_path):
    slide = SlideRow(slide_id="first", case_id=None, label=None, thumbnail=tile(0, 1500))
    page = written(tmp_path, slides=[slide], pairs=[])
    (shown,) = page.all("img")
    data = base64.b64decode(shown["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (640, 640)


def test_mixed_patients_and_noised_statistics_have_no_single_real_tile(tmp_path):
    mixed = Pair(caption="first; second", real=(tile(1), tile(2)), synthetic=(tile(3),))
    noised = Pair(caption="noised statistics of tumour", real=(), synthetic=(tile(4),))
    page = written(tmp_path, pairs=[mixed, noised])
    assert [at["alt"] for at in page.all("img")] == [
        "Real tile 1 of first; second", "Real tile 2 of first; second",
        "Synthetic tile 1", "Synthetic tile 1",
    ]  # fmt: skip


def test_slides_of_patients_set_aside_are_called_so(tmp_path):
    aside = SlideRow(slide_id="first", case_id="a", label=None, set_aside=True)
    assert "set aside" in written(tmp_path, slides=[aside]).words
    assert "set aside" not in written(tmp_path, slides=[replace(aside, set_aside=False)]).words


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
            yield Pair(caption="first", real=(real,), synthetic=())
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
        bundle=None,
        slides=[],
        pairs=[],
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
