"""An audit that is complete, and figures that a reader asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixcell_share.bundles import (
    REQUIRED_TESTS,
    AuditResult,
    BundleSummary,
    Requirement,
    SiteKey,
    verify_bundle,
    write_bundle,
)
from pixcell_share.bundles.requirements import missing_tests
from pixcell_share.errors import FormatError, ReleaseRefusedError, SettingsError
from tests.bundles.forging import (
    AUDIT,
    COHORT,
    PASSED,
    make_tiles,
    payload_of,
    refusal,
    sign_anew,
    without,
)


def private(audit: AuditResult) -> AuditResult:
    tests = tuple(
        replace(test, figures={**test.figures, "private": 1}) if test.name == "budget" else test
        for test in audit.tests
    )
    return replace(audit, tests=tests)


def cut(audit: dict[str, Any], name: str) -> None:
    """Remove a test from a signed audit, as somebody would who has the key."""
    predicate = audit["predicate"]
    predicate["passedTests"].remove(name)
    del predicate["pixcell-share:audit"]["figures"][name]


@pytest.mark.parametrize("name", REQUIRED_TESTS)
def test_each_required_test_is_asked_for(
    good: BundleSummary, key: SiteKey, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "cut"
    told = [test for test in REQUIRED_TESTS if test != name]
    write_bundle(folder, COHORT, make_tiles(4), without(name), key, count=4, required_tests=told)
    with pytest.raises(FormatError) as caught:
        verify_bundle(folder, [key.public], required_tests=REQUIRED_TESTS)
    assert f"{AUDIT}: {name} is missing" in caught.value.cause
    assert "older version, or the audit was cut" in caught.value.cause
    assert verify_bundle(folder, [key.public], required_tests=told).manifest.count == 4
    assert verify_bundle(good.folder, [key.public], required_tests=REQUIRED_TESTS)


def test_nothing_is_signed_with_an_audit_that_is_cut(key: SiteKey, tmp_path: Path) -> None:
    for name in set(REQUIRED_TESTS) - {"patient_linkage"}:
        with pytest.raises(ReleaseRefusedError, match=f"{name} did not run"):
            write_bundle(tmp_path / "b", COHORT, make_tiles(4), without(name), key, count=4)
    with pytest.raises(ReleaseRefusedError, match="patient_linkage did not run"):
        write_bundle(
            tmp_path / "b",
            COHORT,
            make_tiles(4),
            without("patient_linkage"),
            key,
            count=4,
            required_tests=REQUIRED_TESTS,
        )
    assert not list(tmp_path.iterdir())


def test_retrieval_may_be_absent_where_conditions_are_private() -> None:
    assert missing_tests(PASSED, REQUIRED_TESTS) == ()
    assert missing_tests(without("retrieval"), REQUIRED_TESTS) == ("retrieval",)
    assert missing_tests(private(without("retrieval")), REQUIRED_TESTS) == ()
    assert missing_tests(private(without("retrieval", "cohort")), REQUIRED_TESTS) == ("cohort",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "patient_linkage.residual_high<=0.1",
            Requirement("patient_linkage", "residual_high", "<=", 0.1),
        ),
        (" patient_linkage.auc < .6 ", Requirement("patient_linkage", "auc", "<", 0.6)),
        ("cohort.patients>=50", Requirement("cohort", "patients", ">=", 50.0)),
        ("data_copying.c_t>-3e0", Requirement("data_copying", "c_t", ">", -3.0)),
        (
            "limits.patient_linkage.residual<=0.05",
            Requirement("patient_linkage", "residual", "<=", 0.05, of_limits=True),
        ),
        ("membership.loss_auc<=0.6", Requirement("membership", "loss_auc", "<=", 0.6)),
    ],
)
def test_requirements_are_read_and_written(text: str, expected: Requirement) -> None:
    assert Requirement.parse(text) == expected
    assert Requirement.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "patient_linkage", "patient_linkage.residual", "patient_linkage.residual==0.1",
        "patient_linkage.residual<=", "patient_linkage.residual<=ten", "residual<=0.1",
        "patient_linkage.residual<=1e999", "patient_linkage.residual<=nan", "a.b.c<=1",
        "patient_linkage.residual<=1.2.3", "linkage.residual<=0.1", "Patient.x<=1",
        "patient_linkage.residual<=0.1; rm -rf", "limit.patient_linkage.residual<=0.1",
    ],
)  # fmt: skip
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Requirement.parse(text)
    assert "patient_linkage.residual_high<=0.1" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_linkage.residual_high<=0.08", None),
        ("patient_linkage.residual_high<0.08", "is 0.08, and <0.08 is required"),
        ("patient_linkage.residual_high<=0.05", "is 0.08, and <=0.05 is required"),
        ("patient_linkage.residual>=0.5", "is 0.02, and >=0.5 is required"),
        ("patient_linkage.residual>0.01", None),
        ("limits.patient_linkage.residual<=0.1", None),
        ("limits.patient_linkage.residual<=0.05", "limits.patient_linkage.residual is 0.1, and"),
        ("patient_linkage.auc<=1", "does not state patient_linkage.auc: it has detectable, res"),
        ("limits.patient_linkage.auc<=1", "does not state limits.patient_linkage.auc"),
        ("data_copying.c_t>=-3", "does not state data_copying.c_t: it has none"),
        ("membership.loss_auc<=1", "the audit has no test membership"),
    ],
)
def test_a_requirement_is_met_or_named(
    good: BundleSummary, key: SiteKey, text: str, words: str | None
) -> None:
    asked = [Requirement.parse("patient_linkage.detectable<=0.05"), Requirement.parse(text)]
    if words is None:
        verify_bundle(good.folder, [key.public], requirements=asked)
        return
    with pytest.raises(FormatError) as caught:
        verify_bundle(good.folder, [key.public], requirements=asked)
    assert words in caught.value.cause
    assert caught.value.cause.startswith(AUDIT)


def test_requirements_do_not_excuse_a_bad_signature(
    bundle: Path, key: SiteKey, other_key: SiteKey
) -> None:
    asked = [Requirement.parse("patient_linkage.residual_high<=0.05")]
    with pytest.raises(Exception, match="not trusted"):
        verify_bundle(bundle, [other_key.public], requirements=asked)


def test_an_audit_cut_by_its_own_site(bundle: Path, key: SiteKey) -> None:
    """Its limits still name the test, so it contradicts itself before it is incomplete."""
    sign_anew(bundle, key, edit_audit=lambda audit: cut(audit, "patient_linkage"))
    assert "passedTests" in refusal(bundle, key).cause


def test_a_bundle_without_an_audit(bundle: Path, key: SiteKey) -> None:
    assert payload_of(bundle / AUDIT)
    (bundle / AUDIT).unlink()
    assert refusal(bundle, key).cause == f"{AUDIT} is missing"


def test_a_bundle_that_never_had_an_audit(bundle: Path, key: SiteKey) -> None:
    """Signed by the site all the same, with no audit in its list of files."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest["subject"] = [s for s in manifest["subject"] if s["name"] != AUDIT]

    sign_anew(bundle, key, edit_manifest=edit)
    (bundle / AUDIT).unlink()
    error = refusal(bundle, key)
    assert isinstance(error, FormatError)
    assert error.cause.startswith("the bundle has no audit")
