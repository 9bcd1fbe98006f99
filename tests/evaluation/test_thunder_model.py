"""The file that hands an encoder to Thunder, loaded by Thunder."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixcell_share.encoders import load_encoder
from pixcell_share.errors import SettingsError
from pixcell_share.evaluation import export_thunder_model
from tests.evaluation.thunder_oracle import thunder


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export_thunder_model(load_encoder("nano"), tmp_path / "for thunder")


def test_the_file_stands_alone(exported: Path) -> None:
    """Needs nothing of ours, and is what Thunder looks for."""
    tree = ast.parse(exported.read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [n.names[0].name for n in ast.walk(tree) if isinstance(n, ast.Import)]
    assert not any(name.startswith("pixcell") for name in imported)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [ast.unparse(base) for base in classes[0].bases] == ["PretrainedModel"]
    assert len(classes) == 1
    assert exported.with_suffix(".safetensors").is_file()


def test_thunder_embeds_as_we_do(exported: Path, tmp_path: Path) -> None:
    nano = load_encoder("nano")
    tiles = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    model = thunder("models.utils").load_custom_model_from_file(str(exported))
    assert (model.name, model.emb_dim, model.vlm) == ("nano", nano.dim, False)
    transform = model.get_transform()
    pixels = torch.stack([transform(Image.fromarray(tile)) for tile in tiles])
    with torch.inference_mode():
        found = model.get_embeddings(pixels, model, "linear_probing").numpy()
        patches = model.get_embeddings(pixels, model, "segmentation").numpy()
    ours = nano.embed(tiles)
    assert np.abs(found - ours).max() < 0.02 * np.abs(ours).max()  # PIL rounds to grey levels
    assert patches.shape == (3, 14 * 14, nano.dim)


def test_encoders_that_thunder_knows_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="texture is not described by a folder"):
        export_thunder_model(load_encoder("texture"), tmp_path)
