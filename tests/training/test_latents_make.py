"""From pictures and slides to rows: the right numbers, in the right place, whatever goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from pixcell_share.encoders import load_encoder
from pixcell_share.errors import DataError, SettingsError, WorkFolderError
from pixcell_share.training.latents import LatentStore
from pixcell_share.training.latents.entries import turned
from pixcell_share.training.latents.make import make_store
from pixcell_share.training.latents.outcome import Made
from tests.tiny import DIM, make_tiny_model
from tests.training.latents_pictures import arrays, draw_pictures, make, settings, write_table


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", input_px=32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 14)


@pytest.fixture(scope="module")
def unbroken(pictures: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("whole") / "store", model, regions=pictures)


def picture(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def test_rows_are_what_diffusers_and_the_encoder_say(tmp_path: Path, model: Path) -> None:
    folder = draw_pictures(tmp_path / "large", 3, px=512)
    made = make(tmp_path / "store", model, regions=folder, region_px=512, shard_mb=1)
    store = LatentStore.open(made.store)
    vae = AutoencoderKL.from_pretrained(model / "vae").eval()
    encoder = load_encoder("nano", weights=str(model / "encoder"))
    assert store.info.latent_shape == (16, 64, 64)
    assert store.info.embedding_shape == (4, DIM)
    assert store.info.scaling_factor == vae.config.scaling_factor
    for split in ("train", "holdout"):
        for row in range(store.count(split)):
            image = picture(folder / store.describe(split, row)["file"])
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
            with torch.inference_mode():
                mean = vae.encode(pixels).latent_dist.mean[0].numpy()
            regions = store.read(split, np.array([row]))
            np.testing.assert_allclose(regions.latents[0], mean, rtol=2e-3, atol=2e-4)
            corners = [(0, 0), (0, 256), (256, 0), (256, 256)]  # row by row
            tiles = np.stack([image[y : y + 256, x : x + 256] for y, x in corners])
            np.testing.assert_allclose(
                regions.embeddings[0], encoder.embed(tiles), rtol=2e-3, atol=2e-4
            )


def test_every_picture_is_stored_once(unbroken: Made, pictures: Path) -> None:
    store = LatentStore.open(unbroken.store)
    assert unbroken.exit_code == 0 and unbroken.found == unbroken.used == 14
    files = [row.file for split in ("train", "holdout") for row in store.index(split)]
    assert sorted(files) == sorted(
        p.relative_to(pictures).as_posix() for p in pictures.rglob("*.png")
    )
    assert files != sorted(files), "neighbours in the folder are neighbours in the store"
    for split, other in (("train", "holdout"), ("holdout", "train")):
        slides = {row.slide for row in store.index(split)}
        assert slides.isdisjoint(row.slide for row in store.index(other))


def test_nothing_to_do(unbroken: Made, pictures: Path, model: Path) -> None:
    before = arrays(unbroken.store)
    again = make(unbroken.store, model, regions=pictures)
    assert again.status == "nothing to do" and again.rows == unbroken.rows
    assert arrays(unbroken.store) == before


def _child(out: Path, model: Path, pictures: Path) -> None:
    torch.set_num_threads(1)
    make(out, model, regions=pictures)


@pytest.mark.slow
def test_killed_and_resumed_to_the_same_bytes(
    unbroken: Made, pictures: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.latents_pictures"])
    seed = time.time_ns()
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    # A store grows by a shard or two between two kills.
    for _ in range(3):
        before = len(list(out.glob("*.sha256")))
        process = context.Process(target=_child, args=(out, model, pictures))
        process.start()
        while process.is_alive() and len(list(out.glob("*.sha256"))) <= before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
    assert make(out, model, regions=pictures).rows == unbroken.rows
    assert arrays(out) == arrays(unbroken.store)
    assert (out / "store.json").read_text() == (unbroken.store / "store.json").read_text()


def test_stored_slides_are_not_read_again(
    pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = draw_pictures(tmp_path / "pictures", 14)
    (folder / "slide9").mkdir()
    (folder / "slide9" / "broken.png").write_bytes(b"no picture")
    done = make(tmp_path / "store", model, regions=folder)
    # As after a kill: the last shard is not there, nor the word that the store is finished.
    value = json.loads((done.store / "store.json").read_text())
    last = done.shards["train"] - 1
    first = sum(value["shards"]["train"][:last])
    missing = {row.file for row in LatentStore.open(done.store).index("train")[first:]}
    (done.store / "store.json").write_text(json.dumps({**value, "shards": None}))
    for path in done.store.glob(f"train-{last:05d}.*"):
        path.unlink()
    opened: list[str] = []
    original = Image.open

    def watching(path: Path) -> Image.Image:
        opened.append(path.relative_to(folder).as_posix())
        return original(path)

    monkeypatch.setattr(Image, "open", watching)
    again = make(done.store, model, regions=folder)
    assert set(opened) == missing
    assert again.rows == done.rows and again.left_out == done.left_out


def test_other_pictures_or_settings_are_refused(
    pictures: Path, model: Path, tmp_path: Path
) -> None:
    folder = draw_pictures(tmp_path / "pictures", 3)
    make(tmp_path / "store", model, regions=folder)
    with pytest.raises(WorkFolderError, match="turns was 1, now 2"):
        make(tmp_path / "store", model, regions=folder, turns=2)
    draw_pictures(folder, 4)
    with pytest.raises(WorkFolderError, match=r"3 pictures, .* 4 pictures, "):
        make(tmp_path / "store", model, regions=folder)


def test_bad_pictures_are_left_out(model: Path, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 8)
    (folder / "slide0" / "00.png").write_bytes(b"")
    cut = folder / "slide2" / "04.png"
    cut.write_bytes(cut.read_bytes()[:-2000])  # its size is known, its pixels are not
    made = make(tmp_path / "store", model, regions=folder)
    assert made.exit_code == 3
    assert (made.found, made.used, sum(made.rows.values())) == (8, 6, 6)
    assert {(e["name"], e["code"]) for e in made.left_out} == {
        ("slide0/00.png", "unreadable"),
        ("slide2/04.png", "unreadable"),
    }
    again = make(tmp_path / "store", model, regions=folder)
    assert (again.exit_code, again.left_out) == (3, made.left_out)


def test_a_file_that_can_be_read_again_is_tried_again(model: Path, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 2)
    whole = {path: path.read_bytes() for path in folder.rglob("*.png")}
    for path, data in whole.items():
        path.write_bytes(bytes(len(data)))  # as a share shows a file that is still being copied
    with pytest.raises(DataError, match="none of 2 pictures"):
        make(tmp_path / "store", model, regions=folder)
    for path, data in whole.items():
        path.write_bytes(data)
    assert make(tmp_path / "store", model, regions=folder).used == 2


def test_sizes(model: Path, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 2, px=224)
    with pytest.raises(SettingsError, match="224 x 224 px, not 256 x 256") as refused:
        make(tmp_path / "store", model, regions=folder)
    assert "--resize" in refused.value.remedy
    assert make(tmp_path / "store", model, regions=folder, resize=True).used == 2
    Image.new("RGB", (256, 300)).save(folder / "odd.png")
    with pytest.raises(SettingsError, match="a region is square"):
        make(tmp_path / "other", model, regions=folder, resize=True)


def test_table(model: Path, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 6)
    rows = [
        ["slide0/00.png", "a", "p1", "lung", "TCGA", "holdout"],
        ["slide0/01.png", "b", "p1", "lung", "TCGA", ""],
        ["slide1/02.png", "", "", "breast", "", "train"],
    ]
    columns = ["file", "slide", "case", "organ", "source", "split"]
    table = write_table(tmp_path / "regions.csv", columns, rows)
    made = make(tmp_path / "store", model, regions=folder, table=table)
    assert made.rows == {"train": 1, "holdout": 2}
    store = LatentStore.open(made.store)
    assert {row.file for row in store.index("holdout")} == {"slide0/00.png", "slide0/01.png"}
    (only,) = store.index("train")
    assert (only.slide, only.case, only.organ) == ("02", "", "breast")


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (["file"], ["slide9/none.png"], "line 2: there is no slide9/none.png"),
        (["slide"], ["a"], "no column named file"),
        (["file", "organs"], ["slide0/00.png", "x"], "unknown column 'organs'"),
        (["file", "split"], ["slide0/00.png", "test"], "line 2: the split 'test'"),
        (["file"], ["slide0/00.png", "x"], "more fields"),
        (["file"], [""], "the file column is empty"),
    ],
)
def test_wrong_tables(
    model: Path, pictures: Path, tmp_path: Path, columns: list[str], row: list[str], message: str
) -> None:
    table = write_table(tmp_path / "regions.csv", columns, [row])
    with pytest.raises(SettingsError, match=message):
        make(tmp_path / "store", model, regions=pictures, table=table)


def test_limit(model: Path, pictures: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "store", model, regions=pictures, limit=5)
    assert (sum(made.rows.values()), made.used, made.not_reached) == (5, 5, 9)
    assert made.exit_code == 0


def test_turns(model: Path, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 1)
    made = make(tmp_path / "store", model, regions=folder, turns=8, shard_mb=0.6)
    split = "train" if made.rows["train"] else "holdout"
    store = LatentStore.open(made.store)
    vae = AutoencoderKL.from_pretrained(model / "vae").eval()
    image = picture(folder / "slide0" / "00.png")
    seen = []
    for row in range(8):
        turn = int(store.describe(split, row)["turn"])
        view = turned(image, turn)
        seen.append(view.tobytes())
        pixels = torch.from_numpy(view).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            mean = vae.encode(pixels).latent_dist.mean[0].numpy()
        latents = store.read(split, np.array([row])).latents[0]
        np.testing.assert_allclose(latents, mean, rtol=2e-3, atol=2e-4)
    assert len(set(seen)) == 8, "two orientations are alike"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "from slides or from pictures"),
        ({"region_px": 300, "regions": Path()}, "--region-px 300"),
        ({"turns": 9, "regions": Path()}, "--turns 9"),
        ({"limit": 0, "regions": Path()}, "start at 1"),
        ({"resize": True, "slides": Path()}, "--resize"),
    ],
)
def test_refused_options(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_store(settings(tmp_path, tmp_path, **more), None)  # type: ignore[arg-type]
