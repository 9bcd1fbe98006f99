"""Each thing that could identify someone is planted in a bundle that was really written."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pixcell_share.bundles import SiteKey, forbidden, shuffled_order, write_bundle
from pixcell_share.bundles.forbidden import Search
from pixcell_share.privacy.attributes import (
    Secrets,
    attributes_test,
    inspect_attributes,
    order_p_value,
)
from tests.bundles.forging import COHORT, PASSED, make_tiles

SHARD = "shard-00000.h5"
SECRETS = Secrets(
    slides=("TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf.svs", "slide.tif", "1.svs", "Weißgerber_7.ndpi"),
    patients=("PAT-0815/4711", "P001", "12", "tumour", "4471182"),
    paths=("/mnt/klinikum-west/wsi/normal.svs", "C:\\Befunde\\export"),
    hosts=("gpu07.patho.example.org", "node", "srv"),
    users=("mmustermann", "root", "li"),
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("key") / "site.key")


@pytest.fixture(scope="module")
def clean(key: SiteKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "bundle"
    tiles = make_tiles(12)
    return write_bundle(folder, COHORT, tiles, PASSED, key, count=12, shard_bytes=85_000).folder


@pytest.fixture
def bundle(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "bundle"))


def kinds(folder: Path, secrets: Secrets = SECRETS) -> set[tuple[str, str]]:
    return {(f.kind, f.file) for f in inspect_attributes(folder, secrets, cohort=COHORT)}


def test_a_clean_bundle_has_no_finding(clean: Path) -> None:
    """Nor for a patient called like a class, a count or a computer called node."""
    assert inspect_attributes(clean, SECRETS, cohort=COHORT) == ()
    test = attributes_test((), 7)
    assert test.passed
    assert test.figures == {"files": 7, "findings": 0}


# -- words --------------------------------------------------------------------------------

WORDS = {
    "slide as it is": (b"TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf.svs", "slide"),
    "slide without its ending": (b"x TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf x", "slide"),
    "slide in another case": (b"tcga-05-4244-01z-00-dx1.D4FF32CD-38CF.SVS", "slide"),
    "slide inside a word": (b"xTCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf.svsx", "slide"),
    "part of a slide": (b"from d4ff32cd", "slide"),
    "slide in UTF-16 LE": ("Weißgerber_7.ndpi".encode("utf-16-le"), "slide"),
    "slide in UTF-16 BE": ("Weißgerber_7.ndpi".encode("utf-16-be"), "slide"),
    "slide in capitals": (b"WEISSGERBER", "slide"),
    "slide escaped for Markdown": ("Weißgerber\\_7".encode(), "slide"),
    "slide with an accent apart": ("Weißgerber_7".encode(), "slide"),
    "patient as a whole": (b"(PAT-0815/4711)", "patient"),
    "patient as HTML": (b"PAT-0815&#x2F;4711", "patient"),
    "short patient": (b"patient P001.", "patient"),
    "number of a patient": (b"id=4471182", "patient"),
    "folder": (b"at klinikum-west", "path"),
    "part of a folder": (b"Klinikum", "path"),
    "folder of Windows": (b"befunde", "path"),
    "host": (b"made on gpu07", "host"),
    "whole host": (b"gpu07.patho.example.org", "host"),
    "user": (b"by MMustermann", "user"),
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("file", ["card.md", "croissant.json", "manifest.dsse.json"])
def test_a_word_is_found_in_every_text(bundle: Path, name: str, file: str) -> None:
    word, kind = WORDS[name]
    path = bundle / file
    if file.endswith(".dsse.json"):  # base64 does not hide it
        envelope = json.loads(path.read_text())
        payload = base64.b64decode(envelope["payload"]) + b" " + word + b" "
        path.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
    else:
        path.write_bytes(path.read_bytes() + b" " + word + b" ")
    assert (kind, file) in kinds(bundle)


@pytest.mark.parametrize(
    "harmless",
    [
        "slide", "1", "tile 12", "tumour", "normal", "0.4471182", "44711820", "xP001", "P0012",
        "a38cf0", "root", "node", "li", "srv", "tiff",
    ],
)  # fmt: skip
def test_common_and_short_words_do_not_forbid_everything(bundle: Path, harmless: str) -> None:
    with (bundle / "card.md").open("a") as card:
        card.write(f" {harmless} ")
    assert kinds(bundle) == set()


def test_a_long_word_is_found_among_the_pixels(bundle: Path) -> None:
    path = bundle / SHARD
    with h5py.File(path) as file:
        at = file["images"].id.get_offset() + 1001
    data = bytearray(path.read_bytes())
    for word in ("mmustermann".encode("utf-16-be"), b"KLINIKUM-WEST"):
        data[at : at + len(word)] = word
        at += 3000
    path.write_bytes(data)
    assert kinds(bundle) == {("user", SHARD), ("path", SHARD)}


def test_a_word_across_two_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(SECRETS)
    noise = np.random.default_rng(0).integers(0, 256, 200, np.uint8).tobytes()
    data = noise[:100] + b"mmustermann" + noise[100:]
    for block in range(1, 130):
        monkeypatch.setattr(forbidden, "BLOCK_BYTES", block)
        found = list(search.in_noise(SHARD, BytesIO(data)))
        assert [(f.kind, f.private) for f in found] == [("user", "mmustermann")]


def test_a_word_in_a_file_name(bundle: Path) -> None:
    (bundle / "card.md").rename(bundle / "card-mmustermann.md")
    assert kinds(bundle) == {
        ("user", "card-mmustermann.md"),
        ("file_name", "card-mmustermann.md"),
    }


def test_what_the_site_publishes_is_no_secret(bundle: Path, key: SiteKey, tmp_path: Path) -> None:
    cohort = replace(COHORT, site="Klinikum-West (gpu07)")
    folder = tmp_path / "other"
    write_bundle(folder, cohort, make_tiles(12), PASSED, key, count=12)
    assert inspect_attributes(folder, SECRETS, cohort=cohort) == ()
    assert inspect_attributes(folder, SECRETS, cohort=COHORT) != ()


def test_the_private_text_is_not_in_the_public_one(bundle: Path) -> None:
    (bundle / "card.md").write_text("by mmustermann, d4ff32cd, 2026-11-22")
    found = inspect_attributes(bundle, SECRETS, cohort=COHORT)
    assert {f.private for f in found} == {"mmustermann", "d4ff32cd", "2026-11-22"}
    assert not any(f.private in f.what for f in found)
    test = attributes_test(found, 7)
    assert not test.passed
    assert test.figures["findings"] == 3


def test_ten_thousand_slides_among_many_megabytes() -> None:
    """Time per byte does not grow with the number of names: tried one by one, this takes hours."""
    names = tuple(f"case-{i:08d}-{i * 7919:08x}.svs" for i in range(10_000))
    noise = np.random.default_rng(0).integers(0, 256, 24 << 20, np.uint8).tobytes()
    data = noise + names[7345].upper().encode() + noise[:1000]
    found = list(Search(Secrets(slides=names)).in_noise(SHARD, BytesIO(data)))
    assert {f.private for f in found} == {names[7345], names[7345].removesuffix(".svs")}


# -- times --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-22", "2026-11-22T10:00:00Z", "20261122", "20261122101112.000", "2026:11:22",
        "22.11.2026", "11/22/2026", "22 Nov 2026", "November 22, 2026", "10:11:12",
        "Sun Nov 22 10:11:12 2026", "scan_20261122_1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["card.md", "croissant.json"])
def test_a_date_is_found(bundle: Path, written: str, file: str) -> None:
    path = bundle / file
    text = path.read_text()
    if file == "croissant.json":
        path.write_text(json.dumps(json.loads(text) | {"dateCreated": written}))
    else:
        path.write_text(f"{text}\nmade: {written}.\n")
    assert kinds(bundle) == {("time", file)}


@pytest.mark.parametrize(
    "written", ["20261122 B", "20261122 tiles", "0.20261122", "1.20.2", "20261332", "ab20261122cd"]
)
def test_a_number_is_no_date(bundle: Path, written: str) -> None:
    with (bundle / "card.md").open("a") as card:
        card.write(f" {written} ")
    assert kinds(bundle) == set()


def test_the_revision_of_a_public_model_may_be_a_date(key: SiteKey, tmp_path: Path) -> None:
    cohort = replace(COHORT, models=(replace(COHORT.models[0], revision="2025-06-01"),))
    write_bundle(tmp_path / "b", cohort, make_tiles(12), PASSED, key, count=12)
    assert inspect_attributes(tmp_path / "b", SECRETS, cohort=cohort) == ()


# -- formats ------------------------------------------------------------------------------


def _attribute(where: str) -> Callable[[h5py.File], object]:
    return lambda file: file[where].attrs.__setitem__("scanner", "GT450")


def _dataset(file: h5py.File) -> None:
    file["coords"] = np.arange(10)


def _gap(file: h5py.File) -> None:
    """Data that no name leads to: written, then unlinked."""
    file["secret"] = np.arange(1000)
    file["after"] = np.arange(10)
    del file["secret"], file["after"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_attribute("/"), {"hdf5_attribute", "hdf5_bytes"}),
        (_attribute("images"), {"hdf5_attribute", "hdf5_bytes"}),
        (_attribute("labels"), {"hdf5_attribute", "hdf5_bytes"}),
        (_dataset, {"hdf5_attribute", "hdf5_bytes"}),
        (_gap, {"hdf5_bytes"}),
    ],
)
def test_what_hdf5_can_hide(
    bundle: Path, edit: Callable[[h5py.File], object], expected: set[str]
) -> None:
    with h5py.File(bundle / SHARD, "r+") as file:
        edit(file)
    assert {kind for kind, name in kinds(bundle) if name == SHARD} == expected


def test_a_single_byte_in_a_structure(bundle: Path) -> None:
    path = bundle / SHARD
    with h5py.File(path) as file:
        start = file["images"].id.get_offset()
    data = bytearray(path.read_bytes())
    free = [at for at in range(600, start) if data[at : at + 8] == bytes(8)][-1]
    data[free] = 65
    path.write_bytes(data)
    found = inspect_attributes(bundle, SECRETS, cohort=COHORT)
    assert [(f.kind, f.what) for f in found] == [
        ("hdf5_bytes", f"bytes that belong to no tile, from byte {free} on")
    ]


@pytest.mark.parametrize("tail", [b"x", bytes(1)])
def test_bytes_after_the_end_of_a_shard(bundle: Path, tail: bytes) -> None:
    with (bundle / SHARD).open("ab") as file:
        file.write(tail)
    assert kinds(bundle) == {("hdf5_bytes", SHARD)}


def test_a_time_stamp_of_hdf5(bundle: Path) -> None:
    """h5py stamps each object unless it is told not to."""
    with h5py.File(bundle / SHARD) as file:
        images, labels = file["images"][:], file["labels"][:]
        held = {name: dict(file[name].attrs) for name in ("images", "labels")}
    with h5py.File(bundle / SHARD, "w", libver=("earliest", "v108")) as file:
        for name, data in (("images", images), ("labels", labels)):
            file.create_dataset(name, data=data, track_times=True).attrs.update(held[name])
    assert ("hdf5_bytes", SHARD) in kinds(bundle)


def test_a_file_that_is_no_shard(bundle: Path) -> None:
    (bundle / SHARD).write_bytes(b"nothing of the kind")
    assert kinds(bundle) == {("hdf5_bytes", SHARD)}


def test_a_chunk_of_the_preview(bundle: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", "x")
    path = bundle / "preview.png"
    Image.open(path).save(path, pnginfo=note)
    assert kinds(bundle) == {("png_chunk", "preview.png")}
    found = inspect_attributes(bundle, SECRETS, cohort=COHORT)
    assert "tEXt" in found[0].what


@pytest.mark.parametrize("name", ["notes.txt", "shard-1.h5", ".hidden", "shard-00000.h5.bak"])
def test_a_file_of_another_name(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / SHARD).read_bytes() if name == "shard-1.h5" else b"x")
    assert kinds(bundle) == {("file_name", name)}


def test_a_folder_or_a_link_is_a_finding(bundle: Path) -> None:
    (bundle / "inner").mkdir()
    (bundle / "link").symlink_to("card.md")
    assert kinds(bundle) == {("file_name", "inner"), ("file_name", "link")}


def test_a_bundle_that_is_half_written(bundle: Path) -> None:
    """As `write_bundle` shows it to the audit: shards and preview only."""
    for name in ("manifest.dsse.json", "audit.dsse.json", "card.md", "croissant.json"):
        (bundle / name).unlink()
    assert kinds(bundle) == set()


# -- order and counts ---------------------------------------------------------------------


def bundle_of(folder: Path, key: SiteKey, labels: np.ndarray) -> Path:
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tiles = ((tile, int(label)) for label in labels)
    return write_bundle(folder, COHORT, tiles, PASSED, key, count=len(labels)).folder


def found_in(folder: Path, sources: np.ndarray, least: int = 1) -> list[str]:
    found = inspect_attributes(
        folder, SECRETS, cohort=COHORT, tile_sources=sources, least_patients=least
    )
    return [f.kind for f in found]


@pytest.mark.parametrize("k", [1, 3])
def test_the_order_of_slides_is_found_and_a_shuffled_one_is_not(
    key: SiteKey, tmp_path: Path, k: int
) -> None:
    patients = np.repeat(np.arange(20), 10)
    sources = np.stack([patients + 100 * i for i in range(k)], axis=1)
    folder = bundle_of(tmp_path / "b", key, np.arange(200) % 2)
    assert found_in(folder, sources) == ["order"]
    shuffled = sources[shuffled_order(key.derive("test"), 200)]
    assert found_in(folder, shuffled) == []
    if k == 1:
        assert found_in(folder, patients) == ["order"], "(N,) is read as (N, 1)"


def test_half_sorted_is_enough(key: SiteKey, tmp_path: Path) -> None:
    patients = np.repeat(np.arange(20), 10)
    order = shuffled_order(key.derive("test"), 200)
    order[:60] = np.sort(order[:60])
    folder = bundle_of(tmp_path / "b", key, np.arange(200) % 2)
    assert found_in(folder, patients[order]) == ["order"]


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Of 400 shuffled orders at p < 0.001 one is expected in two and a half runs of this test."""
    generator = np.random.default_rng(7)
    patients = np.repeat(np.arange(30), 5)[:, None]
    chances = [order_p_value(generator.permutation(patients), seed=i) for i in range(400)]
    assert sum(chance < 0.001 for chance in chances) <= 3
    assert sum(chance < 0.05 for chance in chances) == pytest.approx(20, abs=20)
    rare = np.arange(1000)
    rare[[3, 4]] = 1
    assert order_p_value(rare[:, None]) > 0.001, "one pair of two tiles is no proof"


def test_orders_that_cannot_tell() -> None:
    assert order_p_value(np.zeros((50, 1), np.int64)) == 1.0, "one patient only"
    assert order_p_value(np.arange(50)[:, None]) == 1.0, "one tile for each patient"
    assert order_p_value(np.zeros((1, 1), np.int64)) == 1.0


def test_a_class_of_too_few_patients(key: SiteKey, tmp_path: Path) -> None:
    labels = np.arange(40) % 2
    generator = np.random.default_rng(0)
    patients = np.where(labels == 0, generator.integers(0, 10, 40), generator.integers(20, 22, 40))
    folder = bundle_of(tmp_path / "b", key, labels)
    assert found_in(folder, patients, least=2) == []
    found = inspect_attributes(
        folder, SECRETS, cohort=COHORT, tile_sources=patients, least_patients=3
    )
    assert [(f.kind, f.private) for f in found] == [("count", "tumour: 2")]


def test_sources_of_another_bundle_are_refused(clean: Path) -> None:
    with pytest.raises(ValueError, match="11 sources for 12 tiles"):
        found_in(clean, np.arange(11))
