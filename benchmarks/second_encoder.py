"""How well do the encoders that need no download tell groups of real tiles apart?

The audit asks whether a tile can be traced to its patient; here real tiles stand for it:

- `lung`: all 10,749 tiles but one of each near-duplicate group; every third of them, in the order
  of the manifest. ``same_group``: how often the nearest other tile, by cosine, is of the same
  group (copies of one original under rotations and crops). ``class_5nn``: accuracy of five
  neighbours of *other* groups.
- `fields`: 20 tiles of each of 25 breast fields, a field standing in for a patient: how often the
  nearest other tile is of the same field. The tiles do not overlap.

Compared: `texture`, `nano`, and the 45 numbers of ``pixcell_share/nano/descriptor.py``, which are
standardised as `texture` is. The constants of `texture` were measured on other tiles: one of each
lung group and 67 of the two breast slides. Its families of statistics were chosen on a third of
the lung groups and on the fields, so that its figures there are a little optimistic.

    python benchmarks/second_encoder.py               # writes results/second_encoder_<machine>.json
    python benchmarks/second_encoder.py --constants   # writes the constants of `texture` anew

Needs ../shared/data.
"""

from __future__ import annotations

import argparse
import csv
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.encoders import load_encoder, texture
from pixcell_share.nano.descriptor import describe
from pixcell_share.privacy.intervals import Share
from pixcell_share.slides import SlideRecord, open_slide

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CONSTANTS = ROOT / "pixcell_share" / "encoders" / "_texture_standard.py"
TILE_PX = 256
BATCH = 16

Tiles = NDArray[np.uint8]
Floats = NDArray[np.float32]
Embed = Callable[[Tiles], Floats]


def lung_rows(representatives: bool) -> list[dict[str, str]]:
    """Rows of the manifest: one of each group, or every third of the others."""
    with (DATA / "lung_tiles" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if (row["group_representative"] == "1") == representatives]
    return chosen if representatives else chosen[::3]


def lung_tile(row: dict[str, str]) -> Tiles:
    """(256, 256, 3), resized as a tile set is."""
    image = Image.open(DATA / "lung_tiles" / row["file"]).convert("RGB")
    return np.asarray(image.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC))


def field_tiles() -> tuple[Tiles, NDArray[np.int64]]:
    """Tiles (500, 256, 256, 3) of the breast fields and the field of each."""
    tiles, fields = [], []
    for number, path in enumerate(sorted((DATA / "breast_fields" / "images").iterdir())):
        image = np.asarray(Image.open(path).convert("RGB"))
        for y in range(0, image.shape[0] - TILE_PX + 1, TILE_PX):
            for x in range(0, image.shape[1] - TILE_PX + 1, TILE_PX):
                tiles.append(image[y : y + TILE_PX, x : x + TILE_PX])
                fields.append(number)
    return np.stack(tiles), np.array(fields)


def standard_tiles() -> Tiles:
    """The tiles that the constants are measured on."""
    tiles = [lung_tile(row) for row in lung_rows(representatives=True)]
    side = 2 * TILE_PX  # the slides have 0.25 µm/px
    for name in ("breast_1008", "breast_1015"):
        with open_slide(SlideRecord(name, DATA / "slides" / f"{name}.tiff")) as slide:
            for y in range(0, slide.height - side + 1, side):
                for x in range(0, slide.width - side + 1, side):
                    tiles.append(slide.square(x, y, side, TILE_PX))
    return np.stack(tiles)


def centre_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Median of each column, and its spread: interquartile range / 1.349, but at least half the
    standard deviation (a share that is mostly zero), and at least 0.02: the share of a colour that
    is nearly always absent must not decide by a single pixel."""
    low, centre, high = np.percentile(values, [25, 50, 75], axis=0)
    spread = np.maximum((high - low) / 1.349, np.maximum(values.std(axis=0) / 2, 0.02))
    return centre.astype(np.float32), spread.astype(np.float32)


def write_constants() -> None:
    """Measure the constants of `texture` and write their file."""
    tiles = standard_tiles()
    parts = [
        texture.describe(texture.texture_spec().transform(tiles[start : start + BATCH]))
        for start in range(0, len(tiles), BATCH)
    ]
    lines = {"CENTRES": "", "SPREADS": ""}
    for name in texture.FAMILIES:
        found = centre_and_spread(torch.cat([part[name] for part in parts]).numpy())
        for table, values in zip(lines, found, strict=True):
            lines[table] += _entry(name, values)
    CONSTANTS.write_text(_HEAD.format(count=len(tiles)) + "".join(
        f"\n{table} = _parsed(\n    {{\n{entries}    }}\n)\n" for table, entries in lines.items()
    ))  # fmt: skip


def _entry(name: str, values: Floats) -> str:
    text = textwrap.fill(" ".join(f"{value:.4g}" for value in values), 96)
    return f'        "{name}": """\n{text}\n""",\n'


_HEAD = '''"""Median and spread of each number of the texture descriptor, on {count} real tiles.

Written by ``python benchmarks/second_encoder.py --constants``; do not edit. The tiles: one of each
near-duplicate group of ``lung_tiles`` and 67 of the two breast slides, at 256 px. The spread is
the interquartile range / 1.349, at least half the standard deviation, and at least 0.02.
"""

from __future__ import annotations


def _parsed(tables: dict[str, str]) -> dict[str, tuple[float, ...]]:
    return {{name: tuple(map(float, text.split())) for name, text in tables.items()}}

'''


def embedded(tiles: Tiles, embed: Embed) -> Floats:
    """Embeddings of all tiles, in batches."""
    return np.concatenate([embed(tiles[at : at + BATCH]) for at in range(0, len(tiles), BATCH)])


def cosines(embeddings: Floats) -> Floats:
    """(N, N) cosines, with nothing on the diagonal."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = unit @ unit.T
    np.fill_diagonal(found, -np.inf)
    return found


def same_group(similar: Floats, groups: NDArray[np.int64]) -> dict[str, Any]:
    """Share of tiles whose nearest other tile is of their group, where there is one."""
    several = np.bincount(groups)[groups] > 1
    hits = (groups[similar.argmax(axis=1)] == groups)[several]
    return _figures(Share(int(hits.sum()), len(hits)))


def class_5nn(similar: Floats, groups: NDArray[np.int64], labels: NDArray[np.int64]) -> Any:
    """Accuracy of the majority of five neighbours of other groups."""
    others = np.where(groups[:, None] == groups[None], -np.inf, similar)
    near = labels[np.argpartition(-others, 5, axis=1)[:, :5]]
    votes = np.stack([(near == label).sum(axis=1) for label in range(labels.max() + 1)], axis=1)
    return _figures(Share(int((votes.argmax(axis=1) == labels).sum()), len(labels)))


def _figures(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {
        "tiles": share.total,
        "share": round(share.value, 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def descriptors() -> dict[str, Embed]:
    """What is compared."""

    def plain(tiles: Tiles) -> Floats:
        pixels = torch.from_numpy(np.array(tiles)).permute(0, 3, 1, 2).float()
        return describe(pixels / 127.5 - 1).numpy()

    centre, spread = centre_and_spread(embedded(standard_tiles(), plain))
    return {
        "texture": load_encoder("texture").embed,
        "nano": load_encoder("nano").embed,
        "45 numbers": lambda tiles: (plain(tiles) - centre) / spread,
    }


def measure() -> list[dict[str, Any]]:
    """One row for each descriptor."""
    rows = lung_rows(representatives=False)
    lung = np.stack([lung_tile(row) for row in rows])
    groups, labels = (
        np.unique([row[column] for row in rows], return_inverse=True)[1]
        for column in ("near_duplicate_group", "class")
    )
    fields, numbers = field_tiles()
    results = []
    for name, embed in descriptors().items():
        began = time.process_time()
        on_fields = embedded(fields, embed)
        seconds = time.process_time() - began
        similar = cosines(embedded(lung, embed))
        results.append(
            {
                "encoder": name,
                "dim": on_fields.shape[1],
                "tiles_per_cpu_s": round(len(fields) / seconds, 1),
                "lung_same_group": same_group(similar, groups),
                "lung_class_5nn": class_5nn(similar, groups, labels),
                "fields_same_field": same_group(cosines(on_fields), numbers),
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--constants", action="store_true", help="write the constants of texture")
    torch.set_num_threads(1)
    if parser.parse_args().constants:
        write_constants()
        return
    rows = measure()
    path = write_result("second_encoder", {"rows": rows}, ("torch", "numpy", "pillow"))
    for row in rows:
        print(row)
    print(path)


if __name__ == "__main__":
    main()
