"""The texture descriptor: its statistics against plain ones, its symmetries, and real tiles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from pixcell_share.encoders import LoadRequest, load_encoder, texture
from pixcell_share.errors import SettingsError
from pixcell_share.nano.descriptor import describe
from pixcell_share.weights import digest_files

TURNS = [(turns, flip) for turns in range(4) for flip in (False, True)][1:]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("texture")


@pytest.fixture(scope="module")
def coloured() -> np.ndarray:
    """(3, 256, 256, 3): blobs of several sizes in stain-like colours, with grain."""
    rng = np.random.default_rng(5)
    smooth = [
        np.asarray(Image.fromarray(rng.random((side, side)).astype(np.float32)).resize((256, 256)))
        for side in (12, 31, 64)
    ]
    inks = np.array([[120, 150, 60], [60, 130, 70], [20, 30, 10]])
    pictures = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        layers = sum(smooth[o][..., None] ** 3 * ink for o, ink in zip(order, inks, strict=True))
        pictures.append(240 - layers + rng.normal(0, 4, (256, 256, 3)))
    return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)


def raw(tiles: np.ndarray) -> dict[str, np.ndarray]:
    """Each family of numbers before it is standardised."""
    found = texture.describe(texture.texture_spec().transform(tiles))
    return {name: values.numpy() for name, values in found.items()}


@pytest.mark.parametrize(("turns", "flip"), TURNS)
def test_flips_and_quarter_turns_change_only_rounding(encoder, coloured, turns, flip) -> None:
    turned = np.rot90(coloured[:, :, ::-1] if flip else coloured, turns, axes=(1, 2))
    before, after = encoder.embed(coloured), encoder.embed(np.ascontiguousarray(turned))
    np.testing.assert_allclose(after, before, atol=2e-4)
    assert np.abs(before[0] - before[1]).max() > 0.1  # other tiles are far from that close


def test_a_tile_does_not_depend_on_its_batch(encoder, coloured) -> None:
    together = encoder.embed(coloured)
    alone = np.concatenate([encoder.embed(tile[None]) for tile in coloured])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_precision_of_the_run_does_not_reach_it(encoder, coloured) -> None:
    low = load_encoder("texture", dtype=torch.bfloat16)
    np.testing.assert_array_equal(low.embed(coloured), encoder.embed(coloured))


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_an_even_tile_has_finite_numbers(encoder, level) -> None:
    embedding = encoder.embed(np.full((1, 256, 256, 3), level, np.uint8))
    assert np.isfinite(embedding).all()
    assert np.linalg.norm(embedding) > 0


def test_other_sizes_are_resized(encoder, coloured) -> None:
    assert encoder.embed(coloured[:, :224, :224]).shape == (3, encoder.dim)


def test_colours_agree_with_scipy_and_numpy(coloured) -> None:
    half = coloured.reshape(3, 128, 2, 128, 2, 3).astype(float).mean((2, 4)) / 255
    flat = half.reshape(3, -1, 3)
    moments = raw(coloured)["moments"].reshape(3, 4, 6)[:, :, :3]
    np.testing.assert_allclose(moments[:, 0], flat.mean(1), atol=1e-5)
    np.testing.assert_allclose(np.exp(moments[:, 1]) - 1e-3, flat.std(1), rtol=1e-3)
    np.testing.assert_allclose(moments[:, 2], stats.skew(flat, axis=1), rtol=0.05, atol=0.05)
    kurtosis = stats.kurtosis(flat, axis=1, fisher=False)
    np.testing.assert_allclose(np.expm1(moments[:, 3]), kurtosis, rtol=0.05)
    histograms = raw(coloured)["histograms"].reshape(3, 6, 16)
    for tile in range(3):
        counts, _ = np.histogram(flat[tile, :, 1], bins=16, range=(0, 1))
        np.testing.assert_allclose(histograms[tile, 1] ** 2, counts / flat.shape[1], atol=2e-3)


def test_stains_are_those_of_scikit_image(coloured) -> None:
    color = pytest.importorskip("skimage.color")
    half = coloured.reshape(3, 128, 2, 128, 2, 3).astype(float).mean((2, 4)) / 255
    # Not `rgb2hed`, which cuts negative densities off.
    hed = (-np.log10(np.maximum(half, 1 / 255)) @ color.hed_from_rgb).reshape(3, -1, 3)
    np.testing.assert_allclose(raw(coloured)["moments"][:, 3:6], hed.mean(1), atol=1e-4)


def test_patterns_agree_with_a_plain_loop(coloured) -> None:
    grey = coloured[:1, :40, :40].astype(int).sum(3)
    found = texture._patterns(torch.from_numpy(grey).float())[0].numpy() ** 2
    counts = np.zeros(10)
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    for y in range(1, 39):
        for x in range(1, 39):
            bits = [int(grey[0, y + dy, x + dx] > grey[0, y, x]) for dy, dx in ring]
            uniform = sum(a != b for a, b in zip(bits, bits[1:] + bits[:1], strict=True)) <= 2
            counts[sum(bits) if uniform else 9] += 1
    np.testing.assert_allclose(found, counts / counts.sum(), atol=1e-6)


def test_autocorrelation_agrees_with_numpy(coloured) -> None:
    half = coloured.reshape(3, 128, 2, 128, 2, 3).astype(float).mean((2, 4))
    grey = half.sum(3)[0] / 765
    grey -= grey.mean()
    for place, lag in enumerate(texture._LAGS):
        pairs = (grey[lag:] * grey[:-lag]).mean() + (grey[:, lag:] * grey[:, :-lag]).mean()
        found = raw(coloured)["autocorrelations"][0, place * 3 + 2]
        assert found == pytest.approx(pairs / 2 / (grey.var() + 1e-5), abs=1e-3)


@pytest.mark.usefixtures("no_network")
def test_it_names_its_recipe(encoder) -> None:
    identity = encoder.identity
    folder = Path(texture.__file__).parent
    files = [folder / "texture.py", folder / "_texture_standard.py"]
    assert identity.sha256 == digest_files(files)
    assert (identity.source, identity.revision) == ("pixcell-share package", texture.RECIPE)
    assert (identity.licence, identity.noncommercial) == ("Apache-2.0", False)
    assert encoder.spec.source.find(LoadRequest()).revision == texture.RECIPE


def test_it_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no weights"):
        load_encoder("texture", weights=str(tmp_path))


def test_it_tells_groups_of_real_tiles_apart(shared_data: Path, encoder) -> None:
    folder = shared_data / "lung_tiles"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = sorted({row["near_duplicate_group"] for row in rows})[::13]
    chosen = [
        row
        for group in groups
        for row in [row for row in rows if row["near_duplicate_group"] == group][:4]
    ]
    tiles = np.stack([_lung_tile(folder / row["file"]) for row in chosen])
    names = np.array([row["near_duplicate_group"] for row in chosen])
    plain = describe(torch.from_numpy(tiles).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    plain = (plain - plain.mean(0)) / plain.std(0)
    batches = [encoder.embed(tiles[at : at + 16]) for at in range(0, len(tiles), 16)]
    ours, theirs = _same_group(np.concatenate(batches), names), _same_group(plain, names)
    assert ours >= 0.9
    assert ours > theirs


def _lung_tile(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC))


def _same_group(embeddings: np.ndarray, names: np.ndarray) -> float:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    several = np.array([(names == name).sum() > 1 for name in names])
    return float((names[similar.argmax(1)] == names)[several].mean())
