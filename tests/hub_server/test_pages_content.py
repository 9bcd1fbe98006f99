"""What the pages show, and to whom."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hub_server.intake import check_summary
from hub_server.log import verify_log
from hub_server.registry import Job, Role
from hub_server.web import sheets
from pixcell_share.bundles.keys import parse_public_key
from tests.hub_server.page_calls import FOR_ALL, FOR_READERS, PageHub, all_pages
from tests.hub_server.page_hub import OTHER, SITE


@pytest.mark.parametrize("role", list(Role))
def test_the_menu_leads_where_one_may_go(read_hub: PageHub, role: Role) -> None:
    reader = read_hub.person(role)
    menu = set(re.findall(r'<li><a href="(/[a-z]+)"', reader.text("/")))
    expected = {*FOR_ALL[1:5], *(() if role is Role.RESEARCHER else FOR_READERS)}
    assert menu == expected
    for path in menu:
        assert f'<a href="{path}" aria-current="page">' in reader.text(path)


def test_the_first_page_says_what_waits(read_hub: PageHub) -> None:
    page = read_hub.person(Role.OPERATOR).words("/")
    assert "A key came for Hôpital Saint-Louis" in page
    assert "was rejected: pictures out of range" in page
    assert re.search(r"evaluate \w{12} failed", page)
    assert re.search(r"running train \w{12}", page)
    researcher = read_hub.person(Role.RESEARCHER).words("/")
    assert "Saint-Louis" not in researcher
    assert "rejected" not in researcher
    assert re.search(r"running train \w{12}", researcher)


def test_an_accepted_cohort_is_shown_with_all_about_it(read_hub: PageHub) -> None:
    page = read_hub.person(Role.RESEARCHER).words(f"/cohorts/{read_hub.holds.accepted}")
    for words in (
        f"24 synthetic tiles of {SITE}",
        "The cohort passed the audit of its site",
        "residual risk 0.020 (95 % interval 0.000 to 0.080)",
        "evidence, not a guarantee",
        "limit: at most 10 %",
        "No commercial use.",
        "CC-BY-NC-4.0",
        "StonyBrook-CVLab/PixCell-256",
        "32 × 32 px at 0.5 µm/px",
        read_hub.holds.accepted,
        "both-sites",
    ):
        assert words in page, words


def test_a_rejected_cohort_says_why_and_what_happened(read_hub: PageHub) -> None:
    page = read_hub.person(Role.AUDITOR).words(f"/cohorts/{read_hub.holds.rejected}")
    assert "Pictures out of range. The pixels use next to none of their range." in page
    assert "The pixels of all tiles lie between 240 and 240." in page
    assert re.search(r"uploaded by operator .* quarantined by hub .* rejected by hub", page)


def test_withdrawals_name_the_encoders_that_learned_from_them(read_hub: PageHub) -> None:
    page = read_hub.person(Role.AUDITOR).words("/withdrawals")
    assert f"of {OTHER}" in page
    assert "A patient of the site has withdrawn consent" in page
    assert "Its files are deleted." in page
    assert re.search(r"Encoders trained on it both-sites", page)


def test_an_encoder_shows_its_lineage_and_that_a_source_is_gone(read_hub: PageHub) -> None:
    page = read_hub.person(Role.RESEARCHER).words(f"/encoders/{read_hub.holds.encoder}")
    assert "Something it learned from was withdrawn" in page
    assert re.search(rf"synthetic {read_hub.holds.accepted[:12]} of {SITE}", page)
    assert "real lung_tiles, site A" in page
    assert "linear probe" in page
    assert "64.0 61.0 to 66.5" in page
    assert "a source was withdrawn" in read_hub.person(Role.AUDITOR).words("/encoders")


def test_what_was_not_accepted_is_not_there_for_researchers(read_hub: PageHub) -> None:
    reader, holds = read_hub.person(Role.RESEARCHER), read_hub.holds
    shown = reader.text("/cohorts")
    assert holds.accepted in shown
    for hidden in (holds.rejected, holds.withdrawn):
        assert hidden not in shown
        for path in ("", "/summary.json", "/tiles/0.png"):
            assert reader.get(f"/cohorts/{hidden}{path}").status_code == 404
    for path in FOR_READERS:
        assert reader.get(path).status_code == 403


def test_who_changes_nothing_is_offered_no_form_that_would(read_hub: PageHub) -> None:
    auditor, operator = read_hub.person(Role.AUDITOR), read_hub.person(Role.OPERATOR)
    offered = 0
    for path in all_pages(read_hub):
        forms = set(re.findall(r'<form method="post"[^>]* action="([^"]+)"', auditor.text(path)))
        assert forms <= {"/logout", "/account/password"}, path
        offered += operator.text(path).count('method="post"') - len(forms)
    assert offered >= 6


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("site=Uniklinik+K%C3%B6ln", {"accepted"}),
        ("state=withdrawn", {"withdrawn"}),
        ("tissue=tumour", {"accepted", "withdrawn"}),
        ("tissue=nothing", set()),
        ("terms=CC-BY-NC-4.0", {"accepted", "withdrawn"}),
        ("terms=commercial", set()),
        ("part=99", {"accepted", "withdrawn", "rejected"}),
    ],
)
def test_cohorts_are_filtered(read_hub: PageHub, query: str, found: set[str]) -> None:
    page = read_hub.person(Role.AUDITOR).text(f"/cohorts?{query}")
    names = ("accepted", "withdrawn", "rejected")
    assert {name for name in names if f"/cohorts/{getattr(read_hub.holds, name)}" in page} == found


def test_tiles_are_drawn_by_the_hub_once_and_deleted_with_the_cohort(page_hub: PageHub) -> None:
    reader, accepted = page_hub.person(Role.OPERATOR), page_hub.holds.accepted
    path = f"/cohorts/{accepted}/tiles/1.png"
    answer = reader.get(path)
    drawn = Image.open(io.BytesIO(answer.content))
    pitch = sheets.TILE_PX + sheets.GAP_PX
    assert drawn.size == (6 * pitch - sheets.GAP_PX, 2 * pitch - sheets.GAP_PX)
    assert answer.headers["Content-Type"] == "image/png"
    storage = page_hub.web.state.storage
    kept = [key for key in storage.list(f"cohorts/{accepted}") if key.endswith(".png")]
    assert len(kept) == 2
    for wrong in ("2", "-1", "99999999999999999999"):
        assert reader.get(f"/cohorts/{accepted}/tiles/{wrong}.png").status_code in (404, 422)
    reader.send(f"/cohorts/{accepted}/withdraw", reason="the site asked")
    assert list(storage.list(f"cohorts/{accepted}")) == []
    assert reader.get(path).status_code == 404


def test_the_summary_of_the_hub_is_checked_without_it(read_hub: PageHub) -> None:
    path = f"/cohorts/{read_hub.holds.accepted}/summary.json"
    answer = read_hub.person(Role.RESEARCHER).get(path)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    found = check_summary(answer.json(), read_hub.web.state.key.public)
    assert found.bundle == read_hub.holds.accepted


def test_weights_are_given_to_those_who_have_read_the_terms(read_hub: PageHub) -> None:
    reader = read_hub.person(Role.RESEARCHER)
    path = f"/encoders/{read_hub.holds.encoder}/files/model.safetensors"
    assert reader.get(path).status_code == 409
    answer = reader.get(f"{path}?terms=read")
    assert answer.content == b"both-sites" * 4000
    assert answer.headers["Content-Disposition"].endswith('"both-sites-model.safetensors"')
    for wrong in ("other", "../real-only/card.md", "%2e%2e/%2e%2e/hub.key"):
        wanted = path.replace("model.safetensors", wrong)
        assert reader.get(f"{wanted}?terms=read").status_code in (404, 422)


def test_the_leaderboard_sorts_by_its_columns(read_hub: PageHub) -> None:
    reader = read_hub.person(Role.RESEARCHER)
    names = re.compile(r"<bdi>(both-sites|real-only|uni2-h)</bdi>")

    def order(query: str) -> list[str]:
        page = reader.text(f"/leaderboard{query}")
        return names.findall(page.partition("All figures")[2])

    assert order("") == ["both-sites", "real-only", "uni2-h"]
    assert order("?by=crc") == ["uni2-h", "both-sites", "real-only"]
    assert order("?task=nothing&metric=nothing&by=nothing") == order("")
    assert order("?task=linear_probing") == ["both-sites", "real-only"]
    page = reader.text("/leaderboard?by=crc")
    assert 'aria-label="uni2-h: 89.0 % (87.0 to 92.5 %)"' in page
    assert page.count('aria-sort="descending"') == 1


def test_a_running_training_shows_its_curves(read_hub: PageHub) -> None:
    page = read_hub.person(Role.RESEARCHER).text(f"/jobs/{read_hub.holds.training}")
    assert re.search(r'aria-label="Loss: [\d.]+ at step 10, [\d.]+ at step 840"', page)
    assert page.count("<polyline") == 3
    assert 'aria-label="step 840 of 2000"' in page
    assert re.search(r'<script src="/static/hub.js\?[0-9a-f]{12}" defer>', page)
    failed = read_hub.person(Role.AUDITOR).text(f"/jobs/{read_hub.holds.failed}")
    assert "The data set crc is not on this machine." in failed
    assert "<script" not in failed


def test_a_log_outside_the_home_is_not_read(page_hub: PageHub, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
    with page_hub.web.state.registry.session() as session:
        session.get_one(Job, page_hub.holds.training).folder = ".."
    page = page_hub.person(Role.AUDITOR).text(f"/jobs/{page_hub.holds.training}")
    assert "<polyline" not in page


def test_the_log_is_filtered_and_taken_away_to_be_checked(
    read_hub: PageHub, tmp_path: Path
) -> None:
    reader = read_hub.person(Role.AUDITOR)
    acts = re.findall(r'<th scope="row"><code>([a-z.]+)</code>', reader.text("/log?about=cohort"))
    assert acts and {act.partition(".")[0] for act in acts} == {"cohort"}
    assert "site.admit" in reader.text("/log?text=site.admit")
    assert "No act fits" in reader.text("/log?text=nothing+like+this")
    assert "site.invite" in reader.text("/log?before=2")
    with zipfile.ZipFile(io.BytesIO(reader.get("/log/copy.zip").content)) as copy:
        copy.extractall(tmp_path)
    folder = tmp_path / "hub-log"
    key = parse_public_key((folder / "hub.pub").read_bytes(), "hub.pub")
    checkpoint = reader.get("/log/checkpoint").content
    assert verify_log(folder, key, checkpoint).checkpoint.size > 20
