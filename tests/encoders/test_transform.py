"""The batch transform gives what torchvision gives for one PIL image after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from pixcell_share.encoders import ENCODERS, TileTransform

NAMES = ["uni2h", "virchow2", "hoptimus1", "keep", "dinov2_vitb14", "dinov2_vitg14_reg"]
GREY_LEVELS = 255.0


def _by_torchvision(transform: TileTransform, images: np.ndarray) -> torch.Tensor:
    pipeline = transforms.Compose(
        [
            transforms.Resize(
                transform.resize_px or transform.input_px,
                interpolation=InterpolationMode(transform.interpolation),
            ),
            transforms.CenterCrop(transform.input_px),
            transforms.ToTensor(),
            transforms.Normalize(transform.mean, transform.std),
        ]
    )
    return torch.stack([pipeline(Image.fromarray(image)) for image in images])


def _grey_levels(transform: TileTransform, difference: torch.Tensor) -> torch.Tensor:
    return difference.abs() * torch.tensor(transform.std).view(1, 3, 1, 1) * GREY_LEVELS


def _assert_same_pixels(transform: TileTransform, images: np.ndarray) -> None:
    """At most two grey levels apart, and 99 of 100 values equal: PIL rounds in fixed point."""
    expected = _by_torchvision(transform, images)
    difference = _grey_levels(transform, transform(images) - expected)
    assert expected.shape == (len(images), 3, 224, 224)
    assert difference.max() <= 2.01
    assert (difference > 0.5).float().mean() <= 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(256, 256), (300, 411), (224, 224), (150, 150)])
def test_agrees_with_pil(name: str, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    _assert_same_pixels(ENCODERS[name].transform, images)


def test_agrees_with_pil_on_real_tissue(shared_data: Path) -> None:
    files = sorted((shared_data / "breast_fields").rglob("*.*"))
    pictures = [Image.open(f) for f in files if f.suffix in {".png", ".jpg", ".tif", ".tiff"}][:4]
    images = np.stack([np.array(p.convert("RGB").crop((0, 0, 256, 256))) for p in pictures])
    _assert_same_pixels(ENCODERS["uni2h"].transform, images)
    _assert_same_pixels(ENCODERS["virchow2"].transform, images)


def test_interpolations_differ() -> None:
    images = np.random.default_rng(2).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    bilinear = TileTransform(interpolation="bilinear")(images)
    assert not torch.allclose(bilinear, TileTransform(interpolation="bicubic")(images), atol=0.1)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 256, 256, 3), np.float32),
        np.zeros((256, 256, 3), np.uint8),
        np.zeros((1, 3, 256, 256), np.uint8),
    ],
    ids=["floats", "one image", "channels first"],
)
def test_other_arrays_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        TileTransform()(images)
