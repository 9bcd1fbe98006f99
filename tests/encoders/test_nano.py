"""Self-describing encoder folders, and the one that ships in the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.encoders import ENCODERS, load_encoder
from pixcell_share.encoders.nano import NANO_FOLDER
from pixcell_share.encoders.timm_source import build_timm
from pixcell_share.errors import WeightsMismatchError, WeightsMissingError
from tests.encoders.saving import save_weights

CONFIG = {
    "architecture": "vit",
    "kwargs": {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 0,
        "global_pool": "avg",
    },
    "dim": 48,
    "input_px": 224,
    "mean": [0.7, 0.55, 0.7],
    "std": [0.2, 0.2, 0.2],
    "licence": "Apache-2.0",
}


def write_folder(folder: Path, **changes: object) -> Path:
    config = {**CONFIG, **changes}
    torch.manual_seed(1)
    module = build_timm(CONFIG["architecture"], CONFIG["kwargs"])
    save_weights(module, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.usefixtures("no_network")
def test_a_folder_describes_its_encoder(tmp_path: Path, tiles: np.ndarray) -> None:
    encoder = load_encoder("nano", weights=str(write_folder(tmp_path)))
    assert encoder.embed(tiles).shape == (4, 48)
    assert encoder.spec.transform.mean == (0.7, 0.55, 0.7)
    assert encoder.identity.licence == "Apache-2.0"
    assert not encoder.identity.noncommercial


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": "many"},
        {"interpolation": "nearest"},
        {"mean": [0.5]},
        {"kwargs": None},
        {"licence": None, "std": None},
    ],
    ids=str,
)
def test_a_broken_description_names_the_file(tmp_path: Path, changes: dict[str, object]) -> None:
    write_folder(tmp_path, **changes)
    with pytest.raises(WeightsMismatchError, match=r"config\.json"):
        load_encoder("nano", weights=str(tmp_path))


def test_a_config_that_is_not_json_names_the_file(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsMismatchError, match=r"config\.json"):
        load_encoder("nano", weights=str(tmp_path))


def test_a_folder_without_description_is_missing(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "config.json").unlink()
    with pytest.raises(WeightsMissingError, match=r"config\.json"):
        load_encoder("nano", weights=str(tmp_path))


packaged = pytest.mark.skipif(
    not (NANO_FOLDER / "model.safetensors").is_file(), reason="nano's encoder is not trained yet"
)


@packaged
@pytest.mark.usefixtures("no_network")
def test_the_packaged_encoder_tells_tissues_apart(shared_data: Path) -> None:
    encoder = load_encoder("nano")
    assert encoder.identity.source == "pixcell-share package"
    assert encoder.dim == ENCODERS["nano"].dim
    embeddings, groups = _lung(encoder, shared_data)
    centred = embeddings - embeddings.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = unit @ unit.T
    same = (groups[:, None] == groups[None]) & ~np.eye(len(groups), dtype=bool)
    different = groups[:, None] != groups[None]
    assert same.any()
    assert similarity[same].mean() > similarity[different].mean() + 0.2


def _lung(encoder, shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Three tiles of each of twelve originals, and their near-duplicate groups."""
    import csv

    from PIL import Image

    folder = shared_data / "lung_tiles"
    by_group: dict[str, list[dict[str, str]]] = {}
    with (folder / "manifest.csv").open() as stream:
        for row in csv.DictReader(stream):
            by_group.setdefault(row["near_duplicate_group"], []).append(row)
    chosen = [rows[:3] for rows in by_group.values() if len(rows) >= 3][::20][:12]
    rows = [row for group in chosen for row in group]
    column = next(key for key in rows[0] if key in {"file", "path", "filename", "image"})
    images = np.stack([np.array(Image.open(folder / r[column]).convert("RGB")) for r in rows])
    return encoder.embed(images), np.array([r["near_duplicate_group"] for r in rows])
