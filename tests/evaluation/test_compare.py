"""Two sets of tiles in one encoder; Inception's file and clean-fid's resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixcell_share.encoders import load_encoder
from pixcell_share.errors import DataError, WeightsMismatchError, WeightsMissingError
from pixcell_share.evaluation import (
    InceptionEncoder,
    PictureFiles,
    are_pairs,
    compare,
    frechet_distance,
    open_pictures,
)
from pixcell_share.evaluation.compare import cosines
from pixcell_share.evaluation.inception import clean_resize
from tests.evaluation.evaluation_data import write_pictures


@pytest.fixture
def folders(tmp_path: Path) -> tuple[PictureFiles, PictureFiles]:
    for name in ("real", "made"):
        write_pictures(tmp_path / name, [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    write_pictures(tmp_path / "made" / "a", ["0.png"], side=48)
    return open_pictures(tmp_path / "real"), open_pictures(tmp_path / "made")


def test_a_set_is_like_itself_and_less_like_another(folders, tmp_path: Path) -> None:
    nano = load_encoder("nano")
    real, made = folders
    same, other = compare(real, real, nano, paired=True), compare(real, made, nano, paired=True)
    assert same.frechet == pytest.approx(0, abs=1e-3 * other.frechet)
    assert same.nearest_cosine == pytest.approx(1, abs=1e-6)
    assert other.frechet > 0
    assert other.paired_cosine is not None
    assert same.paired_cosine is not None
    assert other.paired_cosine.low < other.paired_cosine.value < same.paired_cosine.value + 1e-9
    one, two = (np.concatenate([nano.embed(p[None]) for p in s.read(range(8))]) for s in folders)
    expected = torch.nn.functional.cosine_similarity(torch.tensor(one), torch.tensor(two)).mean()
    assert other.paired_cosine.value == pytest.approx(float(expected), abs=1e-5)
    assert other.frechet == pytest.approx(frechet_distance(one, two), rel=1e-3)
    products = cosines(np.repeat(two, 8, axis=0), np.tile(one, (8, 1))).reshape(8, 8)
    assert other.nearest_cosine == pytest.approx(products.max(axis=1).mean(), abs=1e-5)
    assert other.to_dict()["sizes"] == (8, 8)


def test_pairs_are_files_of_the_same_names(folders, tmp_path: Path) -> None:
    real, made = folders
    assert are_pairs(real, made)
    (tmp_path / "made" / "a" / "0.png").unlink()
    fewer = open_pictures(tmp_path / "made")
    assert not are_pairs(real, fewer)
    nano = load_encoder("nano")
    assert compare(real, fewer, nano).paired_cosine is None
    with pytest.raises(DataError, match="8 and 7 tiles are not pairs"):
        compare(real, fewer, nano, paired=True)
    with pytest.raises(DataError, match="cannot be compared"):
        compare(PictureFiles(real.folder, real.files[:3]), real, nano)
    with pytest.raises(DataError, match="holds no picture"):
        open_pictures(tmp_path / "made" / "nothing")


@pytest.mark.parametrize("shape", [(256, 256, 3), (1024, 700, 3), (100, 150, 3)])
def test_resizing_is_antialiased_and_not_rounded(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = clean_resize(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(
        pixels, (299, 299), mode="bicubic", align_corners=False, antialias=True
    )
    assert np.abs(found - theirs[0].permute(1, 2, 0).numpy()).max() < 0.01
    assert (np.abs(found - found.round()) > 0.01).mean() > 0.9


class Layers(nn.Module):
    """Stands where Inception's layers stand: a feature for each place of a coarse grid."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, pixels: Tensor) -> Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(pixels, (32, 64)).mean(dim=1)
        return pooled.flatten(1)[:, : self.features, None, None]


class Network(nn.Module):
    def __init__(self, features: int = 2048) -> None:
        super().__init__()
        self.layers = Layers(features)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)


def saved(network: nn.Module, folder: Path) -> Path:
    torch.jit.script(network).save(str(folder / "inception-2015-12-05.pt"))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_file_of_inceptions_form_is_used(folders, tmp_path: Path) -> None:
    encoder = InceptionEncoder(saved(Network(), tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = encoder.embed(image)
    assert (found.shape, found.dtype) == ((2, 2048), np.float32)
    expected = (clean_resize(image[1]).mean() - 128) / 128
    assert found[1].mean() == pytest.approx(expected, abs=2e-3)
    result = compare(*folders, encoder)
    assert result.encoder.name == "inception"
    assert len(result.encoder.sha256) == 64


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_without_inceptions_file_the_error_names_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError) as missing:
        InceptionEncoder(tmp_path)
    assert "inception-2015-12-05.pt" in missing.value.remedy
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsMismatchError, match="is not the TorchScript Inception"):
        InceptionEncoder(tmp_path / "other.pt")
    wrong = InceptionEncoder(saved(Network(features=1000), tmp_path))
    with pytest.raises(WeightsMismatchError, match="1000 features"):
        wrong.embed(np.zeros((1, 8, 8, 3), np.uint8))


class Flat(nn.Module):
    """Features for torchmetrics: the first numbers of each picture."""

    num_features = 8

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :8].double()


def test_the_distance_is_that_of_torchmetrics() -> None:
    image = pytest.importorskip(
        "torchmetrics.image.fid", reason="torchmetrics is in the extra `peers`"
    )
    theirs = image.FrechetInceptionDistance(feature=Flat(), normalize=True)
    theirs.set_dtype(torch.float64)
    samples = [torch.from_numpy(np.random.default_rng(i).random((60, 3, 4, 4))) for i in (0, 1)]
    for sample, real in zip(samples, (True, False), strict=True):
        theirs.update(sample + 0.1 * (not real), real=real)
    first, second = (Flat()(s + 0.1 * i).numpy() for i, s in enumerate(samples))
    assert frechet_distance(first, second) == pytest.approx(float(theirs.compute()), rel=1e-6)
