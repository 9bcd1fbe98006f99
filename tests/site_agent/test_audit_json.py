"""What machines read says what the page says."""

from __future__ import annotations

import json

import pytest

from site_agent.report import audit_json as audit_json_module
from site_agent.report.audit_json import audit_json
from tests.site_agent.audit_reports import INVALID, PASS, REFUSE, pair, report, written


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
