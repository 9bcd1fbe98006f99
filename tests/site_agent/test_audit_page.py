"""The page of an audit: whole, quiet, readable aloud, and free of others' markup."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pixcell_share.bundles.audit import AuditResult, AuditTest
from site_agent.report.audit_page import (
    LedgerRow,
    LinkedPatient,
    write_audit,
)
from tests.site_agent.audit_reports import INVALID, PASS, REFUSE, pair, report, written
from tests.site_agent.pages import tile

MARKUP = '<script>alert("x")</script>'


@pytest.mark.parametrize("found", [PASS, REFUSE, INVALID])
def test_words_that_promise_too_much_never_appear(tmp_path, found):
    words = written(tmp_path, audit=found).words.lower()
    assert not re.search(r"anonym|safe|harmless|guarantee|de-?identif|no risk|risk-free", words)


@pytest.mark.parametrize("found", [PASS, REFUSE, INVALID])
def test_nothing_is_loaded_and_nothing_runs(tmp_path, found):
    page = written(tmp_path, audit=found)
    sources = [at["src"] for at in page.all("img")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not page.all("script")
    assert not page.all("link")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:|\son\w+=", text)
    policies = [at.get("content") for at in page.all("meta")]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies


@pytest.mark.parametrize("found", [PASS, REFUSE, INVALID])
def test_links_lead_somewhere_and_no_target_is_named_twice(tmp_path, found):
    page = written(tmp_path, audit=found)
    targets = [at["id"] for _, at in page.elements if "id" in at]
    assert len(set(targets)) == len(targets)
    assert {at["href"].removeprefix("#") for at in page.all("a")} <= set(targets)


def test_pictures_charts_and_tables_can_be_read_aloud(tmp_path):
    page = written(tmp_path, audit=REFUSE)
    assert all(picture["alt"] for picture in page.all("img"))
    assert all(at.get("aria-label") or at.get("aria-hidden") for at in page.all("svg"))
    assert all(at.get("scope") for at in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_markup_in_names_is_shown_and_not_obeyed(tmp_path):
    quoted = '" onerror="alert(1)'
    page = written(
        tmp_path,
        site=MARKUP,
        mode=MARKUP,
        encoder=MARKUP,
        second_encoder=MARKUP,
        second_sentence=MARKUP,
        weak=(MARKUP,),
        closest_in_pixels=[pair(1, 0.5, slide_id=MARKUP), pair(2, 0.5, slide_id=quoted)],
        linked=[LinkedPatient(patient=MARKUP, group=MARKUP, score=0.0, p=1.0)],
        ledger=[LedgerRow(patient=MARKUP, releases=1, epsilon=0.0)],
        software=[(MARKUP, MARKUP)],
    )
    assert not page.all("script")
    assert not any("onerror" in at for at in page.all("img"))
    assert page.words.count(MARKUP) >= 12


def test_patients_whom_the_attack_claims_first_come_first(tmp_path):
    words = written(tmp_path).words
    assert words.index("case-2") < words.index("case-1")
    assert "case-2 set aside 2.500 0.100 claims" in words
    many = [
        LinkedPatient(patient=f"case-{number}", group="set aside", score=0.0, p=number / 500)
        for number in range(500)
    ]
    words = written(tmp_path, linked=iter(many)).words
    assert "The first 200 of 500 patients" in words
    assert "case-199 " in words
    assert "case-200 " not in words


def test_a_raised_limit_of_the_encoder_is_explained(tmp_path):
    note = "That is the limit in the encoder, instead of the site's 0.99"
    assert note in written(tmp_path).words
    usual = replace(report().control, encoder_limit=0.99)
    assert note not in written(tmp_path, control=usual).words


def test_every_kind_of_planted_copy_is_listed_with_its_use(tmp_path):
    words = written(tmp_path).words
    assert "exact 32 32 30 demanded" in words
    assert "crop 75 32 11 7 reported" in words


def test_the_closest_pair_is_shown_as_it_lies_on_the_real_tile(tmp_path):
    real = np.kron(tile(7, 16), np.ones((4, 4, 1))).astype(np.uint8)
    turned = pair(1, 1.0, synthetic=np.rot90(real), real=real)
    page = written(tmp_path, closest_in_pixels=[turned], closest_in_encoder=[])
    shown = [picture["src"] for picture in page.all("img")]
    assert shown[0] == shown[1]
    assert "turned: rotate 270" in page.words


def test_pictures_are_read_one_at_a_time(tmp_path):
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
            yield pair(number, 0.5, real=real)
            del real

    written(tmp_path, closest_in_pixels=pairs())
    assert len(most) == 12
    assert max(most) <= 3


def test_the_same_report_gives_the_same_bytes(tmp_path):
    write_audit(tmp_path / "a.html", report())
    write_audit(tmp_path / "b.html", report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_audit_of_nothing_can_be_shown(tmp_path):
    empty = AuditResult("INVALID", (AuditTest("planted_copies", False, {"planted": 0}),))
    words = written(
        tmp_path,
        audit=empty,
        bundle=None,
        control=None,
        closest_in_pixels=(),
        closest_in_encoder=(),
        pixel_scores=np.empty(0),
        encoder_scores=np.empty(0),
        linked=(),
        ledger=(),
    ).words
    assert "No copy could be planted" in words
    assert "No synthetic tile was compared." in words
