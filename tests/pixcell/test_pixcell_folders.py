"""Finding a generator and its VAE, and saying what they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch

from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from pixcell_share.pixcell import PixCell, SamplerSettings, folders

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VAE_REPO = "stabilityai/stable-diffusion-3.5-large"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, repo: str) -> Path:
    """Where the Hugging Face cache keeps the files of ``repo``."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return root / "snapshots" / COMMIT


def sha256(folder: Path) -> str:
    weights = folder / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_local_folder_of_unknown_origin(make_folder, tmp_path):
    folder = make_folder(tmp_path / "secret-project")
    generator, vae = PixCell.from_pretrained(str(folder)).identities
    assert (generator.role, vae.role) == ("generator", "vae")
    for identity in (generator, vae):
        assert identity.licence == "unknown (local weights)"
        assert identity.noncommercial
        assert "secret" not in repr(identity)
    assert generator.sha256 == sha256(folder / "transformer")
    assert vae.sha256 == sha256(folder / "vae")


@pytest.mark.parametrize(
    ("card", "licence", "noncommercial"),
    [
        ("---\nlicense: mit\n---\n# Model", "mit", False),
        ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0", True),
        ("---\nlicense: other\nlicense_name: house-rules\n---\n", "house-rules", True),
        ("# No terms", "unknown (local weights)", True),
        ("---\nlicense: [oops\n---\n", "unknown (local weights)", True),
    ],
)
def test_the_card_beside_local_weights_tells_the_terms(
    make_folder, tmp_path, card, licence, noncommercial
):
    folder = make_folder(tmp_path)
    (folder / "README.md").write_text(card)
    generator, _ = folders.find_folders(str(folder), None).identities
    assert (generator.licence, generator.noncommercial) == (licence, noncommercial)


def test_pixcells_own_layout_takes_the_vae_of_sd35(make_folder, make_vae, hub_cache):
    repo = "StonyBrook-CVLab/PixCell-256"
    make_folder(snapshot(hub_cache, repo), vae=False)
    make_vae().save_pretrained(snapshot(hub_cache, VAE_REPO) / "vae")
    generator, vae = PixCell.from_pretrained(repo).identities
    assert (generator.name, generator.source) == ("PixCell-256", repo)
    assert (generator.licence, generator.noncommercial) == ("CC-BY-NC-ND-4.0", True)
    assert (vae.name, vae.source) == ("stable-diffusion-3.5-large", VAE_REPO)
    assert vae.licence == "Stability AI Community License"
    assert generator.revision == vae.revision == COMMIT


@pytest.mark.parametrize("layout", ["itself", "parent"])
def test_the_vae_may_be_named(make_folder, make_vae, tmp_path, layout):
    folder = make_folder(tmp_path / "model", vae=False)
    make_vae(scaling_factor=0.5).save_pretrained(tmp_path / "other" / "vae")
    name = tmp_path / "other" / ("vae" if layout == "itself" else "")
    model = PixCell.from_pretrained(str(folder), vae=str(name))
    assert model.codec.scale == 0.5
    assert model.identities[1].sha256 == sha256(tmp_path / "other" / "vae")


def test_a_named_vae_goes_before_the_folders_own(make_folder, make_vae, tmp_path):
    folder = make_folder(tmp_path / "model")
    make_vae(scaling_factor=0.5).save_pretrained(tmp_path / "vae")
    assert PixCell.from_pretrained(str(folder), vae=str(tmp_path / "vae")).codec.scale == 0.5


def test_a_missing_vae_names_its_page_and_option(make_folder, tmp_path, hub_cache):
    with pytest.raises(WeightsMissingError) as caught:
        PixCell.from_pretrained(str(make_folder(tmp_path / "model", vae=False)))
    assert f"https://huggingface.co/{VAE_REPO}" in caught.value.remedy
    assert "--vae" in caught.value.remedy
    assert "HF_TOKEN" in caught.value.remedy


def test_a_missing_generator_names_its_page_and_option(hub_cache):
    with pytest.raises(WeightsMissingError) as caught:
        PixCell.from_pretrained("StonyBrook-CVLab/PixCell-1024")
    assert "https://huggingface.co/StonyBrook-CVLab/PixCell-1024" in caught.value.remedy
    assert "--model" in caught.value.remedy


def test_a_vae_with_other_latents_is_refused(make_folder, make_vae, tmp_path):
    folder = make_folder(tmp_path / "model", vae=False)
    make_vae(latent_channels=4).save_pretrained(tmp_path / "sd1")
    with pytest.raises(WeightsMismatchError, match=r"4 latent channels, .* made for one with 16"):
        PixCell.from_pretrained(str(folder), vae=str(tmp_path / "sd1"))


def test_the_folder_may_say_its_own_guidance(make_folder, tmp_path):
    folder = make_folder(tmp_path)
    index = folder / "model_index.json"
    index.write_text(json.dumps({"_class_name": "PixCellPipeline", "guidance_scale": 1.25}))
    assert PixCell.from_pretrained(str(folder)).guidance_scale == 1.25
    index.write_text(json.dumps({"guidance_scale": "high"}))
    with pytest.raises(WeightsError, match="'high'"):
        PixCell.from_pretrained(str(folder))


def test_nano_without_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_NANO_FOLDER", tmp_path / "nothing")
    with pytest.raises(WeightsMissingError, match="nano") as caught:
        PixCell.from_pretrained("nano")
    assert "pixcell-train nano" in caught.value.remedy


@pytest.mark.skipif(not folders._NANO_FOLDER.is_dir(), reason="nano is not trained yet")
def test_nano_is_in_the_package():
    model = PixCell.from_pretrained("nano")
    assert (model.tile_px, model.tokens) == (256, 1)
    for identity in model.identities:
        assert (identity.name, identity.source) == ("nano", "pixcell-share package")
        assert (identity.licence, identity.noncommercial) == ("Apache-2.0", False)
    given = np.zeros((1, model.embedding_dim), np.float32)
    (tile,) = model.generate(given, [1], SamplerSettings(steps=2))
    assert tile.std() > 1


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", torch.bfloat16])
def test_dtypes(make_folder, tmp_path, dtype):
    model = PixCell.from_pretrained(str(make_folder(tmp_path)), dtype=dtype)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    kind = wanted.get(dtype, dtype)
    assert model.transformer.dtype == kind
    assert not any(p.requires_grad or p.dtype != kind for p in model.transformer.parameters())
    # The VAE's config asks for float32 in place of float16 (force_upcast), as in diffusers.
    assert model.codec.vae.dtype == (torch.float32 if kind == torch.float16 else kind)


@pytest.mark.parametrize(
    "wrong", [{"dtype": "fp8"}, {"dtype": torch.int8}, {"device": "abacus"}, {"device": "cuda:99"}]
)
def test_unknown_devices_and_dtypes_are_refused(make_folder, tmp_path, wrong):
    with pytest.raises(SettingsError, match=str(next(iter(wrong.values())))):
        PixCell.from_pretrained(str(make_folder(tmp_path)), **wrong)
