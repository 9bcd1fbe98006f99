"""`pixcell-site region`: a large picture of one region, private and with its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixcell_share.encoders import embed_grid, load_encoder
from pixcell_share.pixcell import PixCell
from pixcell_share.pixcell.large import LargePicture, LargeSettings
from pixcell_share.slides import SlideRecord, open_slide
from site_agent.region_files import choose_path, write_picture
from tests.site_agent.program import Finished, run
from tests.tiny import make_tiny_model

X, Y, SIZE = 1024, 512, 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 256 px from 2 x 2 embeddings of 128 px tiles."""
    return make_tiny_model(tmp_path_factory.mktemp("grid"), tokens=4)


@pytest.fixture
def slide(phantoms: Path) -> Path:
    return sorted(phantoms.glob("*.tif*"))[0]


def region(tmp_path: Path, slide: Path, model: Path, *more: object) -> Finished:
    words: list[Any] = [
        "region", "--slide", slide, "--x", X, "--y", Y, "--size", SIZE, "--model", model,
        "--encoder", "nano", "--weights", model / "encoder", "--steps", 2, "--dtype", "fp32",
        "--out", tmp_path / "r.png", *more,
    ]  # fmt: skip
    return run(tmp_path / "log", *words)


def test_a_region_from_slide_to_picture(tmp_path: Path, slide: Path, model: Path) -> None:
    done = region(tmp_path, slide, model, "--beside", "--json")
    assert done.code == 0, done.err
    assert "generate" in done.err
    picture = np.asarray(Image.open(tmp_path / "r.png"))
    assert picture.shape == (SIZE, SIZE, 3)
    with open_slide(SlideRecord("s", slide)) as opened:
        real = opened.region(X, Y, SIZE, 0.5)
    encoder = load_encoder("nano", weights=str(model / "encoder"))
    grid = embed_grid(encoder, real[None], grid=4).reshape(4, 4, -1)
    made = LargePicture(PixCell.from_pretrained(str(model)), grid, 0, LargeSettings(steps=2))
    # The fast reader decodes at half scale, up to some grey levels from the reference reader.
    assert np.abs(made.array().astype(int) - picture).mean() < 0.5
    pair = np.asarray(Image.open(done.json["beside"]))
    assert pair.shape == (SIZE, 2 * SIZE + 16, 3)
    assert np.abs(pair[:, :SIZE].astype(int) - real).mean() < 2
    assert np.array_equal(pair[:, SIZE + 16 :], picture)


def test_the_record_and_the_warning(tmp_path: Path, slide: Path, model: Path) -> None:
    done = region(tmp_path, slide, model, "--seed", 7, "--guidance-scale", 1.5)
    assert done.code == 0, done.err
    assert "private" in done.out
    assert "do not share" in done.out
    assert "do not share" in Image.open(tmp_path / "r.png").text["Comment"]
    values = json.loads((tmp_path / "r.json").read_text())
    assert (values["slide"], values["x"], values["y"], values["size"]) == (slide.name, X, Y, SIZE)
    assert (values["seed"], values["sampler"]["guidance_scale"], values["windows"]) == (7, 1.5, 9)
    assert [each["role"] for each in values["models"]] == ["generator", "vae", "encoder"]
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, slide: Path, model: Path) -> None:
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    for out in (first, again):
        assert region(tmp_path, slide, model, "--steps", 1, "--out", out).code == 0
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "cause", "remedy"),
    [
        (("--x", 10**6), 2, "beyond the slide", "--x 0 to"),
        (("--y", -1), 2, "beyond the slide", "--y 0 to"),
        (("--size", 8192, "--out", "r.tif"), 2, "beyond the slide", "--size of at most"),
        (("--size", 300), 2, "--size 300 does not suit", "in steps of 128"),
        (("--size", 128), 2, "--size 128 does not suit", "use 256"),
        (("--out", "r.jpeg"), 2, "neither PNG nor TIFF", ".png"),
        (("--size", 8192), 2, "a PNG of 8192 px", ".tif"),
        (("--stride", 5), 2, "do not begin at tiles", "multiple of 16"),
        (("--model", "nano"), 1, "nano takes one embedding", "PixCell-1024"),
        (("--encoder", "nano", "--weights", "nowhere"), 1, "nowhere", ""),
        (("--slide", "nothing.svs"), 2, "nothing.svs", ""),
    ],
)
def test_what_cannot_be_says_why(
    tmp_path: Path, slide: Path, model: Path,
    options: tuple[object, ...], code: int, cause: str, remedy: str,
) -> None:  # fmt: skip
    done = region(tmp_path, slide, model, *options, "--json")
    assert done.code == code, done.err
    assert cause in done.json["error"]["cause"]
    assert remedy in done.json["error"]["remedy"]
    assert not (tmp_path / "r.png").exists()


def test_a_large_picture_is_a_tiled_tiff(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    strips = (picture[first : first + 130] for first in range(0, 600, 130))
    path = choose_path(tmp_path / "r.tif", 600)
    write_picture(path, strips, 600, 0.5)
    with tifffile.TiffFile(path) as file:
        assert np.array_equal(file.asarray(), picture)
        assert file.pages[0].is_tiled
        assert "do not share" in file.pages[0].description
    with open_slide(SlideRecord("s", path), inspect=False) as opened:
        assert opened.mpp == pytest.approx(0.5)
    assert choose_path(None, 4096).name == "region.png"
    assert choose_path(None, 4352).name == "region.tif"
