"""What a hub asks of a bundle on top of the site's own limits, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub_server.cli import app
from hub_server.policy import read_policy
from hub_server.printing import sentences
from pixcell_share.bundles import Requirement, SiteKey, write_bundle
from pixcell_share.errors import FormatError, SettingsError
from tests.bundles.forging import COHORT, PASSED, make_tiles, without


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent")
    key = SiteKey.create(folder / "a.key")
    (folder / "a.pub").write_bytes(key.public_pem)
    write_bundle(folder / "bundle", COHORT, make_tiles(12), PASSED, key, count=12)
    return folder


def verify(sent: Path, *words: object) -> str:
    """Standard output; the command's own error is raised."""
    arguments = ["verify", sent / "bundle", "--trust", sent / "a.pub", *words]
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_verdict_comes_first_and_the_figures_in_a_sentence(sent: Path) -> None:
    told = verify(sent).splitlines()
    assert told[0] == "accepted  Uniklinik Köln"
    assert told[1] == "verdict   PASS: evidence, not a guarantee"
    assert told[2] == (
        "Patient linkage: residual risk 0.020 (95 % interval 0.000 to 0.080); "
        "this audit would have noticed a residual above 0.040."
    )
    assert any(line.startswith("patient_linkage") for line in told)


def test_an_audit_without_the_figures_says_nothing_in_their_place() -> None:
    assert sentences(without("patient_linkage")) == []


def test_requirements_that_are_met_are_listed(sent: Path) -> None:
    words = ("--require", "patient_linkage.residual_high<=0.1", "--require", "budget.releases<=3")
    told = verify(sent, *words)
    assert "required  patient_linkage.residual_high<=0.1: met" in told
    found = json.loads(verify(sent, *words, "--json").splitlines()[-1])
    assert found["required"] == ["patient_linkage.residual_high<=0.1", "budget.releases<=3"]


def test_a_stricter_hub_refuses_and_says_which_figure_and_limit(sent: Path) -> None:
    with pytest.raises(FormatError) as caught:
        verify(sent, "--require", "patient_linkage.residual_high<=0.05")
    assert "patient_linkage.residual_high is 0.08, and <=0.05 is required" in caught.value.cause
    with pytest.raises(FormatError) as caught:
        verify(sent, "--require", "limits.patient_linkage.residual<=0.05")
    assert "limits.patient_linkage.residual is 0.1" in caught.value.cause


def test_bad_usage_is_told_before_the_bundle_is_read(sent: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        verify(sent, "--require", "residual<0.1")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        '[require]\n"patient_linkage.residual_high" = "<=0.1"\n"limits.cohort.patients"=">=5"\n',
        '[require]\npatient_linkage.residual_high = "<= 0.1"\nlimits.cohort.patients=">=5"\n',
        '[require.patient_linkage]\nresidual_high="<=0.1"\n'
        '[require.limits.cohort]\npatients=">=5"\n',
    ],
)
def test_a_policy_in_any_spelling_of_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    assert read_policy(path) == (
        Requirement("patient_linkage", "residual_high", "<=", 0.1),
        Requirement("cohort", "patients", ">=", 5.0, of_limits=True),
    )


def test_a_policy_and_the_command_line_both_hold(sent: Path, tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text('[require]\npatient_linkage.residual_high = "<=0.1"\n')
    assert "residual_high<=0.1: met" in verify(sent, "--policy", path)
    with pytest.raises(FormatError, match=r"detectable is 0\.04"):
        verify(sent, "--policy", path, "--require", "patient_linkage.detectable<=0.01")
    path.write_text('[require]\npatient_linkage.residual_high = "<=0.01"\n')
    with pytest.raises(FormatError, match=r"residual_high is 0\.08"):
        verify(sent, "--policy", path, "--require", "patient_linkage.detectable<=0.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("[require]\n", "no table"),
        ("require = 1\n", "no table"),
        ('[requires]\n"a.b"="<=1"\n', "unknown entry: requires"),
        ('[require]\n"patient_linkage.residual_high" = 0.1\n', "not a comparison"),
        ('[require]\n"patient_linkage.residual_high" = "0.1"\n', "not of the form"),
        ('[require]\n"linkage.residual_high" = "<=0.1"\n', "there is no linkage"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_policy(path)
