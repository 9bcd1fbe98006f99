"""KEEP's way of loading, with a small model that brings its own code as KEEP does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pixcell_share.encoders import load_encoder
from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)

# Written for transformers 4, as KEEP is: no call of post_init.
CODE = """
from pathlib import Path

import timm
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

Path(__file__).with_name("code_ran").touch()


class TowerConfig(PretrainedConfig):
    model_type = "tower"

    def __init__(self, projection_dim=768, **kwargs):
        super().__init__(**kwargs)
        self.projection_dim = projection_dim


class TowerModel(PreTrainedModel):
    config_class = TowerConfig

    def __init__(self, config):
        super().__init__(config)
        self.visual = timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, depth=1, num_classes=0, init_values=1e-5
        )
        self.visual_head = nn.Linear(192, config.projection_dim)

    def encode_image(self, image):
        return nn.functional.normalize(self.visual_head(self.visual(image)), dim=-1)
"""
CONFIG = {
    "model_type": "tower",
    "projection_dim": 768,
    "auto_map": {
        "AutoConfig": "modeling_tower.TowerConfig",
        "AutoModel": "modeling_tower.TowerModel",
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import timm
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "tower"
    folder.mkdir()
    (folder / "modeling_tower.py").write_text(CODE)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    visual = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0, init_values=1e-5)
    head = torch.nn.Linear(192, 768)
    state = {f"visual.{key}": value for key, value in visual.state_dict().items()}
    state |= {f"visual_head.{key}": value for key, value in head.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return folder


def test_strangers_code_runs_only_when_asked(folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_encoder("keep", weights=str(folder))
    assert "--trust-remote-code" in caught.value.remedy
    assert not list(folder.parent.rglob("code_ran"))


@pytest.mark.usefixtures("no_network")
def test_encode_image_gives_the_embedding(folder: Path, tiles: np.ndarray) -> None:
    encoder = load_encoder("keep", weights=str(folder), trust_remote_code=True)
    embeddings = encoder.embed(tiles)
    assert embeddings.shape == (4, 768)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    head = load_file(folder / "model.safetensors")["visual_head.weight"]
    loaded = dict(encoder._module.named_parameters())["model.visual_head.weight"]
    assert torch.equal(loaded, head)


def test_a_missing_weight_is_not_left_random(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["visual_head.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"missing: visual_head\.weight"):
        load_encoder("keep", weights=str(folder), trust_remote_code=True)


def test_failing_code_is_reported_with_its_own_words(folder: Path) -> None:
    (folder / "modeling_tower.py").write_text("raise RuntimeError('written for another age')")
    with pytest.raises(WeightsError, match="written for another age"):
        load_encoder("keep", weights=str(folder), trust_remote_code=True)


def test_a_folder_without_code_is_missing_files(folder: Path) -> None:
    (folder / "modeling_tower.py").unlink()
    with pytest.raises(WeightsMissingError, match=r"\*\.py"):
        load_encoder("keep", weights=str(folder), trust_remote_code=True)
