from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.figures.intervals import Figure, Measured, interval_plot
from pixcell_share.privacy import ControlResult, NearCopySettings, PlantedKind, Share
from pixcell_share.weights import ModelIdentity
from site_agent.report import audit_json as audit_json_module
from site_agent.report.audit_json import audit_json
from site_agent.report.audit_page import (
    AuditReport,
    ClosePair,
    LedgerRow,
    LinkedPatient,
    write_audit,
)
from site_agent.report.audit_questions import QUESTIONS
from site_agent.report.audit_verdict import breaches, power, reasons, sentence
from site_agent.report.audit_words import words_of
from tests.site_agent.pages import Page, tile

MARKUP = '<script>alert("x")</script>'


def spread(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


FIGURES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "planted_copies": (
        {
            "planted": 160, "caught": 160, "interval_low": 0.977, "interval_high": 1.0,
            "caught_by_encoder": 131, "blends": 32, "blends_caught": 31, "negatives": 40,
            "negatives_flagged": 0,
        },
        {"share": 0.99, "blend_share": 0.95, "negative_share": 0.01},
    ),
    "near_copies_in_pixels": (
        {"tiles": 4812, "near_copies": 0, "median": 0.213}, {"near_copies": 0, "score": 0.6},
    ),
    "near_copies_in_encoder": (
        {"tiles": 4812, "near_copies": 0, "median": 0.871}, {"near_copies": 0, "score": 0.9953},
    ),
    "second_encoder": (
        {"real_tiles": 6240, "dim": 304, "distinct": 0.9987, **spread("ceiling", 0.83, 0.71, 0.9)},
        {"distinct": 0.5},
    ),
    "retrieval": (
        {
            "tiles": 4812, "gallery": 6240, **spread("rank_1", 0.031, 0.022, 0.042),
            "control_1": 0.004, **spread("rank_5", 0.09, 0.07, 0.11), "control_5": 0.02,
            **spread("excess", 0.027, 0.018, 0.038),
        },
        {"excess": 0.1},
    ),
    "patient_linkage": (
        {
            "patients": 12, "holdout_patients": 3, "attack_rate": 0.0833, "attack_low": 0.015,
            "attack_high": 0.354, "control_rate": 0.0, "control_low": 0.0, "control_high": 0.56,
            **spread("residual", 0.083, 0.0, 0.35), **spread("auc", 0.54, 0.31, 0.75),
            "detectable": 0.62,
        },
        {"residual": 0.1, "detectable": 1.0},
    ),
    "patient_linkage_conditioning": (
        {
            "patients": 12, "holdout_patients": 3, "attack_rate": 0.1666, "attack_low": 0.047,
            "attack_high": 0.448, "control_rate": 0.0, "control_low": 0.0, "control_high": 0.56,
            **spread("residual", 0.09, 0.0, 0.4), **spread("auc", 0.57, 0.33, 0.77),
            "detectable": 0.62,
        },
        {"residual": 0.1, "detectable": 1.0},
    ),
    "data_copying": (spread("c_t", -1.84, -3.1, -0.6), {}),
    "authenticity": ({**spread("authentic", 0.71, 0.66, 0.76), "control": 0.88}, {}),
    "closest_record": (
        {**spread("nearer", 0.55, 0.51, 0.59), "ratio": 0.62, "ratio_control": 0.66}, {},
    ),
    "membership": (
        {
            "members": 2000, "nonmembers": 1800,
            **spread("loss_auc", 0.52, 0.49, 0.55), **spread("loss_tpr_1", 0.013, 0.008, 0.02),
            **spread("loss_tpr_01", 0.001, 0.0, 0.004), **spread("clid_auc", 0.56, 0.52, 0.6),
            **spread("clid_tpr_1", 0.031, 0.02, 0.046), **spread("clid_tpr_01", 0.004, 0.001, 0.01),
        },
        {"tpr_1": 0.05},
    ),
    "attributes": ({"files": 6, "findings": 0}, {"findings": 0}),
    "cohort": (
        {
            "patients": 12, "holdout_patients": 3, "classes": 3, "smallest_class": 4, "mix": 1,
            "tiles_per_patient": 180,
        },
        {"patients": 5, "class_patients": 3},
    ),
    "budget": (
        {
            "private": 0, "epsilon": 0.0, "delta": 0.0, "total_epsilon": 3.5,
            "total_delta": 1e-5, "releases": 1, "sequence": 4,
        },
        {"epsilon": 10.0, "delta": 1e-3, "releases": 3},
    ),
}  # fmt: skip

BROKEN = {
    "planted_copies": ({"caught": 100}, "62.5 %", "at least 99 %", "36.5 percentage points"),
    "near_copies_in_pixels": ({"near_copies": 3}, "in pixels: 3", "at most 0", "3 over"),
    "near_copies_in_encoder": ({"near_copies": 1}, "in the encoder: 1", "at most 0", "1 over"),
    "second_encoder": ({"distinct": 0.25}, "only 25 %", "at least 50 %", "25 percentage points"),
    "retrieval": ({"excess": 0.25}, "25 % of the synthetic", "at most 10 %", "15 percentage"),
    "patient_linkage": ({"residual": 0.3}, "30 % of the patients", "at most 10 %", "20 percent"),
    "patient_linkage_conditioning": (
        {"residual": 0.25},
        "the encoder that conditioned",
        "at most 10 %",
        "15 percentage",
    ),
    "membership": ({"clid_tpr_1": 0.2}, "20 % of the training", "at most 5 %", "15 percentage"),
    "attributes": ({"findings": 2}, "identify someone: 2", "at most 0", "2 over"),
    "cohort": ({"smallest_class": 1}, "smallest class: 1", "at least 3", "2 short"),
    "budget": ({"releases": 4}, "taken part in: 4", "at most 3", "1 over"),
}
"""For each test that has a limit: figures that break one, and what must be said of it."""


def test_of(name: str, *, broken: bool = False) -> AuditTest:
    figures, limit = FIGURES[name]
    changed = BROKEN[name][0] if broken else {}
    return AuditTest(name, not broken, {**figures, **changed}, limit)


test_of.__test__ = False


def audit(verdict: str = "PASS", *broken: str, without: tuple[str, ...] = ()) -> AuditResult:
    names = [name for name in FIGURES if name not in without]
    return AuditResult(verdict, tuple(test_of(name, broken=name in broken) for name in names))


PASS = audit()
REFUSE = audit("REFUSE", "near_copies_in_pixels", "patient_linkage")
INVALID = audit("INVALID", "planted_copies")


def pair(seed: int, score: float, **changed) -> ClosePair:
    values = {
        "synthetic": tile(seed), "real": tile(seed + 100), "slide_id": f"slide-{seed}", "x": seed,
        "y": 2048, "score": score,
    }  # fmt: skip
    return ClosePair(**{**values, **changed})


def report(**changed) -> AuditReport:
    kind = PlantedKind("exact", Share(32, 32), Share(30, 32))
    crop = PlantedKind("crop 75", Share(11, 32), Share(7, 32))
    values = {
        "site": "Example Hospital",
        "audit": PASS,
        "bundle": "ab" * 32,
        "mode": "Each tile was made from the embedding of one real tile of one patient.",
        "encoder": "nano",
        "second_encoder": "texture",
        "second_sentence": "It is a fixed texture descriptor.",
        "control": ControlResult(
            (kind,), 0.99, encoder_limit=0.995, examined=40, featureless=8, reported=(crop,)
        ),
        "limits": NearCopySettings(),
        "weak": ("Few patients were set aside.",),
        "refused_in_pixels": [pair(1, 0.97), pair(2, 0.91)],
        "closest_in_pixels": [pair(3, 0.55), pair(4, 0.41, fate="dropped")],
        "closest_in_encoder": [pair(5, 0.991)],
        "pixel_scores": np.array([0.2, 0.3, 0.55]),
        "encoder_scores": np.array([0.7, 0.8, 0.991]),
        "linked": [
            LinkedPatient(patient="case-1", group="in the cohort", score=1.5, p=0.25),
            LinkedPatient(patient="case-2", group="set aside", score=2.5, p=0.1, claimed=True),
        ],
        "ledger": [LedgerRow(patient="case-1", releases=2, epsilon=3.0, delta=1e-5)],
        "seed": 7,
        "software": [("torch", "2.15.0")],
        "models": [
            ModelIdentity("encoder", "nano", "owner/name", "abc", "Apache-2.0", False, "cd" * 32)
        ],
    }
    return AuditReport(**{**values, **changed})


def written(folder: Path, **changed) -> Page:
    write_audit(folder / "audit.html", report(**changed))
    page = Page((folder / "audit.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


# -- the verdict ------------------------------------------------------------------------------


def test_a_pass_says_what_was_measured_and_what_could_have_been_noticed(tmp_path):
    words = written(tmp_path).words
    first = words.index("The cohort passed the audit")
    assert first < words.index("8.3 % (95 % interval 0 to 35 %) of the patients") < 1000
    assert "more than the limit of 10 % cannot be ruled out" in words
    assert (
        "With 12 patients in the cohort and 3 set aside, the audit would have noticed a residual "
        "of 62 % or more, four times in five." in words
    )
    assert "Signed bundle, SHA-256 " + "ab" * 32 in words
    assert "Why" not in words[:1500]


def test_a_refusal_says_which_limit_by_how_much_and_shows_the_tiles(tmp_path):
    page = written(tmp_path, audit=REFUSE, bundle=None)
    assert "The release was refused" in page.words
    why = "30 % of the patients are linked to the cohort"
    assert page.words.index(why) < page.words.index("1 more limit did not hold")
    assert "at most 10 % is allowed (20 percentage points over)" in page.words
    assert "Near copies of real tiles in pixels: 3; at most 0 are allowed" in page.words
    assert "Nothing was signed" in page.words
    shown = [at["alt"] for at in page.all("img")]
    assert shown[:4] == [
        "Real tile of slide slide-1", "Synthetic tile, in the cohort",
        "Real tile of slide slide-2", "Synthetic tile, in the cohort",
    ]  # fmt: skip
    assert "correlation 0.970" in page.words
    assert "Signed bundle" not in page.words


def test_an_invalid_audit_says_that_nothing_was_proven(tmp_path):
    page = written(tmp_path, audit=INVALID, bundle=None)
    assert "The audit proves nothing" in page.words
    assert "Only 62.5 % of the copies that were planted on purpose were noticed" in page.words
    assert "nothing was proven, and no setting signs this cohort" in page.words
    marks = {at["class"] for at in page.all("span") if (at.get("class") or "").startswith("mark")}
    assert marks == {"mark bad", "mark reported"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (audit("INVALID", without=("second_encoder",)), "There was no control group"),
        (audit("INVALID", without=("patient_linkage",)), "There was no control group"),
        (audit("INVALID", without=("planted_copies",)), "No copy was planted"),
        (audit("INVALID", "second_encoder"), "cannot tell real tiles apart"),
    ],
)
def test_every_cause_of_an_invalid_audit_is_named(found, expected):
    said = sentence(found, signed=False)
    assert expected in said
    assert "says nothing about this cohort" in said
    assert "Nothing was signed" in said


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_limit_is_named_with_figure_limit_and_distance(name):
    _, *expected = BROKEN[name]
    (said,) = breaches(test_of(name, broken=True))
    plain = said.replace("\u00a0", " ")
    assert all(part in plain for part in expected), plain


@pytest.mark.parametrize("name", FIGURES)
def test_a_limit_that_holds_is_never_called_broken(name):
    (said,) = breaches(test_of(name))
    assert said == f"The test {name.replace('_', ' ')} did not hold."


def test_reasons_begin_with_what_concerns_patients():
    first, second = reasons(REFUSE)
    assert "of the patients" in first
    assert "Near copies" in second


def test_a_cohort_without_tiles_or_copies_is_called_so():
    none = AuditTest("near_copies_in_pixels", False, {"tiles": 0, "near_copies": 0})
    assert breaches(none) == ("No synthetic tile was left to release.",)
    planted = test_of("planted_copies", broken=True)
    (said,) = breaches(replace(planted, figures={**planted.figures, "planted": 0}))
    assert "No copy could be planted" in said


def test_noised_statistics_have_no_source_tile_to_lead_back_to(tmp_path):
    budget = test_of("budget")
    private = replace(budget, figures={**budget.figures, "private": 1, "epsilon": 3.0})
    rest = audit(without=("retrieval", "budget")).tests
    words = written(tmp_path, audit=AuditResult("PASS", (*rest, private))).words
    assert QUESTIONS["retrieval"].title not in words
    assert "differentially private, with epsilon 3" in words


def test_power_is_not_claimed_where_no_patient_could_be_attacked(tmp_path):
    """One patient set aside in each class: figures are there, and say nothing."""
    nobody = {"patients": 0, "holdout_patients": 0, "residual": 0.0, "detectable": 1.0}
    tests = [
        replace(test, figures={**test.figures, **nobody}) if "linkage" in test.name else test
        for test in PASS.tests
    ]
    found = AuditResult("PASS", tuple(tests))
    assert power(found).startswith("No patient could be attacked")
    words = written(tmp_path, audit=found).words
    assert "No patient could be attacked" in words and "0 patients" not in words


def test_power_is_not_claimed_where_it_is_not_known():
    assert "says nothing about patients" in power(audit(without=("patient_linkage",)))
    assert "Nothing that can be relied on" in power(INVALID)
    linkage = test_of("patient_linkage")
    small = replace(linkage, figures={**linkage.figures, "detectable": 1.0})
    assert "not even the largest residual" in power(AuditResult("PASS", (small,)))


# -- the tests --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_every_test_is_on_the_page_as_text(tmp_path, name):
    only = AuditResult("PASS", (test_of(name),))
    text = (written(tmp_path, audit=only), (tmp_path / "audit.html").read_text("utf-8"))[1]
    appendix = text[text.index('<section id="figures">') :]
    for figure, value in FIGURES[name][0].items():
        assert f'<code>{figure}</code></th><td class="number">{value:.9g}</td>' in appendix
    for limit, value in FIGURES[name][1].items():
        row = next(line for line in appendix.splitlines() if f"<code>{limit}</code>" in line)
        assert row.endswith(f'<td class="number">{value:.9g}</td></tr>')


@pytest.mark.parametrize("name", FIGURES)
def test_every_test_has_words_and_main_figures_of_their_own(name):
    words = words_of(test_of(name))
    assert words.question is QUESTIONS[name]
    plain = words_of(AuditTest(name, True, {"other": 1.5}))
    assert plain.answer == "other 1.5."
    assert words.answer != plain.answer
    intervals = any(figure.endswith("_low") for figure in FIGURES[name][0])
    assert (words.figure is not None) == intervals


def test_the_plot_of_a_test_shows_figure_interval_control_and_limit(tmp_path):
    only = AuditResult("PASS", (test_of("patient_linkage"),))
    labels = [at.get("aria-label") for at in written(tmp_path, audit=only).all("svg")]
    labels = [label.replace("\u00a0", " ") for label in labels if label]
    assert "beyond the control: 8.3 % (0 to 35 %); limit: at most 10 %" in labels
    assert "patients set aside, claimed: 0 % (0 to 56 %)" in labels


@pytest.mark.parametrize("name", FIGURES)
def test_a_missing_test_is_said_and_does_no_harm(tmp_path, name):
    rest = audit(without=(name,))
    words = written(tmp_path, audit=rest).words
    asked = "This audit holds no answer to:"
    assert (asked in words) == (name != "membership")
    assert (QUESTIONS[name].title in words) == (name != "membership")


def test_unknown_tests_and_figures_are_listed_plainly(tmp_path):
    other = AuditTest("new_attack", False, {"some_rate": 0.125}, {"some_rate": 0.1})
    found = AuditResult("REFUSE", (other, AuditTest("retrieval", True, {"hits": 3})))
    words = written(tmp_path, audit=found, bundle=None).words
    assert "New attack" in words
    assert "some rate 0.125. Limits: some rate 0.1." in words
    assert "The test new attack did not hold." in words
    assert "hits 3." in words


@given(
    low=st.floats(0, 1), value=st.floats(0, 1), high=st.floats(0, 1), limit=st.floats(0, 1),
    at_least=st.booleans(), share=st.booleans(), scale=st.sampled_from([1e-3, 1.0, -40.0]),
)  # fmt: skip
def test_a_plot_holds_all_values_in_their_order(low, value, high, limit, at_least, share, scale):
    numbers = [number if share else scale * number for number in (low, value, high, limit)]
    low, value, high = sorted(numbers[:3])
    figure = Figure(
        Measured("main", value, low, high), (Measured("control", numbers[3]),), numbers[3],
        at_least, share,
    )  # fmt: skip
    plot = interval_plot(figure)
    assert 0 <= plot.main.low <= plot.main.place <= plot.main.high <= 100
    assert plot.limit == plot.compared[0].place
    places = [place for place, _ in plot.ticks]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == pytest.approx(100)
    bottom, top, _ = figure.axis()
    assert bottom - 1e-9 <= low
    assert high <= top + 1e-9


def test_a_value_lies_where_the_axis_says():
    plot = interval_plot(Figure(Measured("residual", 0.05, 0.0, 0.08), limit=0.1))
    assert (plot.main.place, plot.main.low, plot.limit) == (50.0, 0.0, 100.0)
    assert [text.replace("\u00a0", " ") for _, text in plot.ticks][-1] == "10 %"
    far = interval_plot(Figure(Measured("c_t", -1.5, -3.0, -1.0), share=False))
    assert [text for _, text in far.ticks] == ["\u22123", "\u22122", "\u22121", "0"]
    assert far.main.place == 50.0


# -- the page ---------------------------------------------------------------------------------


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


# -- for machines -----------------------------------------------------------------------------


@pytest.mark.parametrize("found", [PASS, REFUSE, INVALID])
def test_json_says_what_the_page_says(tmp_path, found):
    bundle = "ab" * 32 if found is PASS else None
    words = written(tmp_path, audit=found, bundle=bundle).words
    values = json.loads(json.dumps(audit_json(report(audit=found, bundle=bundle)), allow_nan=False))
    assert values["verdict"] == found.verdict
    assert values["exit_code"] == (0 if found is PASS else 4)
    plain = " ".join(values["sentence"].split())
    assert plain in words
    for said in (*values["weaknesses"], *(values["reasons"] if found is not PASS else ())):
        assert " ".join(said.split()) in words
    assert [entry["name"] for entry in values["tests"]] == [test.name for test in found.tests]
    for entry, test in zip(values["tests"], found.tests, strict=True):
        assert entry["figures"] == dict(test.figures)
        assert entry["limit"] == dict(test.limit)
        assert all(f"{name} {value:.9g}" in words for name, value in entry["figures"].items())
    for shown in (*values["closest_pairs"]["pixels"], *values["closest_pairs"]["encoder"]):
        assert f"{shown['score']:.3f}" in words
        assert f"real tile: {shown['slide']} at {shown['x']}, {shown['y']}" in words
    refused = [entry["slide"] for entry in values["refused_tiles"]["pixels"]]
    assert refused == ["slide-1", "slide-2"]
    assert [row["patient"] for row in values["linked_patients"]] == ["case-1", "case-2"]


def test_every_field_of_the_json_is_documented():
    values = audit_json(report())
    names = {*values, *values["closest_pairs"], *values["closest_pairs"]["pixels"][0]}
    names |= {*values["tests"][0], *values["linked_patients"][0], *values["ledger"][0]}
    missing = [name for name in names if f"``{name}``" not in audit_json_module.__doc__]
    assert not missing


def test_a_score_that_is_not_finite_is_no_json():
    with pytest.raises(ValueError, match="score is not finite"):
        audit_json(report(closest_in_pixels=[pair(1, float("nan"))]))
