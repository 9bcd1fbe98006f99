"""The doctor finds what a run would meet, touches nothing, and asks nobody."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pixcell_share.checks import Check, exit_code
from site_agent.doctor import DoctorSettings, print_checks, run_doctor
from site_agent.doctor.examine import examine_versions
from site_agent.doctor.slides import examine_disk
from site_agent.home import SiteHome

UNI = "https://huggingface.co/MahmoodLab/UNI2-h"


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache, no token, and no connection; not offline, so that a run would download."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a connection was attempted: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PIXCELL_DINOV2_REPO"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def healthy(tmp_path: Path, tiny_model: Path, phantoms: Path, site: SiteHome) -> DoctorSettings:
    """A run that would succeed."""
    return DoctorSettings(
        slides=phantoms,
        table=phantoms / "slides.csv",
        model=str(tiny_model),
        encoder="nano",
        weights=str(tiny_model / "encoder"),
        device="cpu",
        out=tmp_path / "run",
        home=site.folder,
    )


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name.startswith(name))


def examined(settings: DoctorSettings, name: str) -> Check:
    return find(run_doctor(settings), name)


def test_a_run_that_would_succeed(healthy: DoctorSettings, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    checks = run_doctor(healthy)
    assert {check.status for check in checks} <= {"ok", "warn"}, checks
    assert exit_code(checks) == 0
    assert find(checks, "slides").detail == "3 of 3 readable, 0.25 µm/px"
    assert find(checks, "encoder fits").status == "ok"
    assert find(checks, "VAE").status == "ok"
    assert find(checks, "site.toml").detail == "this site is called test-site"
    assert sorted(tmp_path.rglob("*")) == before


def test_each_problem_has_a_remedy(healthy: DoctorSettings) -> None:
    broken = replace(healthy, model="uni/none", encoder="uni2h", weights=None, device="cuda:9")
    problems = [check for check in run_doctor(broken) if check.status != "ok"]
    assert len(problems) >= 3
    assert all(check.remedy for check in problems)


def test_slides_may_be_left_unexamined(healthy: DoctorSettings) -> None:
    checks = run_doctor(replace(healthy, slides=None, table=None))
    assert exit_code(checks) == 0
    assert not [check for check in checks if check.name.startswith(("slide", "patients"))]


def test_bad_slides_are_named_one_by_one(
    healthy: DoctorSettings, phantoms: Path, tmp_path: Path
) -> None:
    slides = tmp_path / "wsi"
    slides.mkdir()
    good = next(phantoms.glob("*.tif*"))
    shutil.copy(good, slides / "good.tiff")
    (slides / "cut.tiff").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (slides / "text.svs").write_text("no slide")
    (slides / "empty.svs").touch()
    checks = run_doctor(replace(healthy, slides=slides, table=None))
    assert find(checks, "slides").detail.startswith("1 of 4")
    for name in ("cut", "text", "empty"):
        assert find(checks, f"slide {name}").status == "fail"
    assert find(checks, "patients").status == "warn"
    assert exit_code(checks) == 1


def test_real_slides_and_a_fluorescence_one(healthy: DoctorSettings, shared_data: Path) -> None:
    checks = run_doctor(replace(healthy, slides=shared_data / "slides", table=None))
    assert find(checks, "slides").detail.startswith("3 of 4")
    assert find(checks, "slide fluorescence_not_HE").status == "fail"


def test_an_empty_folder_of_slides(healthy: DoctorSettings, tmp_path: Path) -> None:
    check = examined(replace(healthy, slides=tmp_path, table=None), "slides")
    assert check.status == "fail"


def test_slides_outside_the_table_are_mentioned(
    healthy: DoctorSettings, phantoms: Path, tmp_path: Path
) -> None:
    lines = (phantoms / "slides.csv").read_text().splitlines()
    table = tmp_path / "slides.csv"
    table.write_text("\n".join(lines[:2]) + "\n")
    check = examined(replace(healthy, table=table), "slide table")
    assert check.status == "warn"
    assert lines[2].split(",")[0].rpartition("/")[2].split(".")[0] in check.detail


def test_a_gated_encoder_needs_a_token(
    healthy: DoctorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = replace(healthy, encoder="uni2h", weights=None)
    check = examined(gated, "encoder uni2h")
    assert check.status == "fail"
    for pointer in (UNI, "HF_TOKEN", "--weights"):
        assert pointer in check.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    check = examined(gated, "encoder uni2h")
    assert check.status == "warn"
    assert "hf_x" not in str(asdict(check))


def test_weights_in_the_cache_need_no_token(healthy: DoctorSettings, tmp_path: Path) -> None:
    model = tmp_path / "cache" / "models--MahmoodLab--UNI2-h"
    snapshot = model / "snapshots" / ("a1" * 20)
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").touch()
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a1" * 20)
    check = examined(replace(healthy, encoder="uni2h", weights=None), "encoder uni2h")
    assert check.status == "ok"
    assert "MahmoodLab/UNI2-h, revision a1a1a1a1a1a1" in check.detail


def test_offline_a_download_would_fail(
    healthy: DoctorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(healthy, model="StonyBrook-CVLab/PixCell-256")
    assert examined(other, "generator").status == "warn"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert examined(other, "generator").status == "fail"
    assert examined(other, "VAE").status == "fail"


def test_the_released_generator_needs_the_gated_vae(healthy: DoctorSettings) -> None:
    check = examined(replace(healthy, model="StonyBrook-CVLab/PixCell-256"), "VAE")
    assert check.status == "fail"
    assert "stabilityai/stable-diffusion-3.5-large" in check.remedy
    assert "--vae" in check.remedy


def test_a_vae_of_ones_own(healthy: DoctorSettings, tiny_model: Path, tmp_path: Path) -> None:
    for vae in (tiny_model, tiny_model / "vae"):
        assert examined(replace(healthy, vae=str(vae)), "VAE").status == "ok"
    assert examined(replace(healthy, vae=str(tmp_path)), "VAE").status == "fail"


def test_an_encoder_that_the_generator_was_not_trained_with(
    healthy: DoctorSettings, tmp_path: Path
) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    other = replace(healthy, encoder="uni2h", weights=str(tmp_path))
    check = examined(other, "encoder fits")
    assert check.status == "fail"
    assert "1536" in check.detail
    assert "24" in check.detail


def test_code_of_strangers_is_announced(healthy: DoctorSettings) -> None:
    keep = replace(healthy, encoder="keep", weights=None)
    assert "--trust-remote-code" in examined(keep, "encoder keep").remedy
    assert examined(replace(keep, trust_remote_code=True), "encoder keep").status == "warn"


def test_an_unknown_encoder(healthy: DoctorSettings) -> None:
    assert "uni2h" in examined(replace(healthy, encoder="uni3", weights=None), "encoder").remedy


def test_a_model_folder_without_weights(healthy: DoctorSettings, tmp_path: Path) -> None:
    checks = run_doctor(replace(healthy, model=str(tmp_path / "none")))
    assert find(checks, "generator").status == "fail"
    assert not [check for check in checks if check.name in {"VAE", "encoder fits"}]


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_here(healthy: DoctorSettings, device: str) -> None:
    assert examined(replace(healthy, device=device), "device").status == "fail"


def test_the_key_and_its_permissions(healthy: DoctorSettings, site: SiteHome) -> None:
    key = examined(healthy, "site key")
    assert (key.status, key.detail.split()[1][:16]) == ("ok", site.load_key().key_id[:16])
    site.private_key.chmod(0o644)
    key = examined(healthy, "site key")
    assert key.status == "fail"
    assert "chmod 600" in key.remedy
    site.private_key.unlink()
    key = examined(healthy, "site key")
    assert key.status == "warn"
    assert "pixcell-site init" in key.remedy


def test_a_broken_site_toml(healthy: DoctorSettings, site: SiteHome) -> None:
    site.config_file.write_text("site = ")
    assert examined(healthy, "site.toml").status == "fail"


def test_a_work_folder_that_cannot_be_made(healthy: DoctorSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert examined(replace(healthy, out=tmp_path / "file" / "run"), "work").status == "fail"
    assert examined(replace(healthy, out=Path("/proc/self/run")), "work").status == "fail"


def test_the_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    one_tile = 2 * 3 * 256**2 + 8192
    assert examine_disk(tmp_path / "not" / "yet", 0).status == "ok"
    assert examine_disk(tmp_path, 2 * free // one_tile).status == "warn"
    assert examine_disk(tmp_path, 40 * free // one_tile).status == "fail"


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("torch>=2", None),
        ("torch>=99", "torch is"),
        ("no-such-library", "no-such-library is not installed"),
    ],
)
def test_library_versions(
    wanted: str, complaint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "site_agent.doctor.examine.requires", lambda name: [wanted, "x>1; extra == 'dev'"]
    )
    check = examine_versions()
    assert check.status == ("fail" if complaint else "ok")
    assert complaint is None or complaint in check.detail


def test_printing_and_json(healthy: DoctorSettings, capsys: pytest.CaptureFixture[str]) -> None:
    checks = run_doctor(replace(healthy, device="cuda:99"))
    print_checks(checks)
    lines = capsys.readouterr().out.splitlines()
    failed = next(i for i, line in enumerate(lines) if line.startswith("FAIL  device"))
    assert lines[failed + 1].strip().startswith("-> use --device cpu")
    rows = json.loads(json.dumps([asdict(check) for check in checks]))
    assert {"name", "status", "detail", "remedy"} == set(rows[0])
