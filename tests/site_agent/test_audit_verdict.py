"""What a report says of the verdict, and of each test in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixcell_share.bundles.audit import AuditResult, AuditTest
from site_agent.report.audit_questions import QUESTIONS
from site_agent.report.audit_verdict import breaches, power, reasons, sentence
from site_agent.report.audit_words import words_of
from tests.site_agent.audit_reports import (
    BROKEN,
    FIGURES,
    INVALID,
    PASS,
    REFUSE,
    audit,
    test_of,
    written,
)


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
