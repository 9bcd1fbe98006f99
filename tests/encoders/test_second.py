"""Which encoder audits: never the one that conditioned, and nothing is downloaded for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pixcell_share.encoders import (
    ENCODERS,
    load_encoder,
    require_independent,
    second_encoder,
    second_encoder_name,
)
from pixcell_share.errors import SettingsError

pytestmark = pytest.mark.usefixtures("no_network", "bare_machine")


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of the Hub and of torch.hub; downloads would be allowed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("PIXCELL_DINOV2_REPO", raising=False)
    return tmp_path


def put_in_hub(folder: Path, repo: str, file: str) -> None:
    """Lay one file into the Hub's cache, as a download would."""
    commit = "0" * 40
    model = folder / "hub" / f"models--{repo.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).mkdir(parents=True)
    (model / "snapshots" / commit / file).write_bytes(b"weights")


def put_dinov2(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """Lay weights and a clone where torch.hub looks."""
    source = ENCODERS[entry].source
    checkpoints = folder / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / source.weight_file).write_bytes(b"weights")
    (folder / "clone").mkdir()
    (folder / "clone" / "hubconf.py").write_text("")
    monkeypatch.setenv("PIXCELL_DINOV2_REPO", str(folder / "clone"))


def test_nano_is_audited_with_texture() -> None:
    choice = second_encoder("nano")
    assert choice.name == second_encoder_name("nano", None) == "texture"
    assert "weaker than a foundation model" in choice.sentence


def test_without_weights_a_foundation_model_is_audited_with_texture() -> None:
    choice = second_encoder("uni2h")
    assert choice.name == "texture"
    assert "no other encoder's weights are on this machine" in choice.sentence


def test_the_strongest_one_on_this_machine_is_taken(bare_machine, monkeypatch) -> None:
    put_dinov2(bare_machine, monkeypatch, "dinov2_vits14")
    assert second_encoder_name("uni2h") == "dinov2_vits14"
    put_in_hub(bare_machine, "paige-ai/Virchow2", "model.safetensors")
    choice = second_encoder("uni2h")
    assert choice.name == "virchow2"
    assert "foundation model of histology" in choice.sentence
    # The one that conditions is passed over, though it is here.
    assert second_encoder_name("virchow2") == "dinov2_vits14"


def test_keep_is_chosen_only_where_its_code_may_run(bare_machine) -> None:
    put_in_hub(bare_machine, "Astaxanthin/KEEP", "model.safetensors")
    snapshot = next((bare_machine / "hub").rglob("snapshots/*"))
    (snapshot / "config.json").write_text("{}")
    (snapshot / "modeling.py").write_text("")
    assert second_encoder("uni2h").name == "texture"
    assert second_encoder("uni2h", trust_remote_code=True).name == "keep"


def test_the_wish_of_the_site_counts() -> None:
    choice = second_encoder("uni2h", "dinov2_vitb14")
    assert choice.name == "dinov2_vitb14"
    assert "as the site asked" in choice.sentence


@pytest.mark.parametrize("name", ["nano", "texture", "uni2h"])
def test_the_conditioning_encoder_is_refused(name) -> None:
    with pytest.raises(SettingsError, match="would be blind"):
        second_encoder(name, name)


def test_nothing_is_left_for_texture_itself_on_a_bare_machine() -> None:
    with pytest.raises(SettingsError, match="would be blind"):
        second_encoder("texture")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="no encoder 'unknown'"):
        second_encoder("nano", "unknown")


def test_the_same_weights_under_another_name_are_refused() -> None:
    first = load_encoder("nano")
    again = load_encoder(replace(ENCODERS["nano"], name="renamed"))
    assert first.identity.sha256 == again.identity.sha256
    with pytest.raises(SettingsError, match="would be blind"):
        require_independent(first, again)
    require_independent(first, load_encoder("texture"))
