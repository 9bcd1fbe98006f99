"""How fast tiles are read on one core: the usual OpenSlide loop against ours.

The usual loop is what most pipelines do for 256 px at 0.5 µm/px on a 40x slide: read 512 px of
level 0 with OpenSlide, then `Image.resize`. Both read the same tiles, turn by turn, each turn with
a newly opened slide. Ratios are of processor time, which other work on the machine disturbs less;
wall time is stored beside it.

    python benchmarks/tiling.py [--data ../shared/data] [--rounds 5]

Writes benchmarks/results/tiling_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import openslide
import tifffile
from _large_slide import CELL, TiffLevel, repeat_to_cell, write_large_slide, write_tiff
from _results import write_result
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.slides import (
    Slide,
    SlideRecord,
    TileGrid,
    draw_demo_slides,
    level0_tile_px,
    open_slide,
    read_tiles,
)

TILE_PX = 256
MAX_TILES = 600
Tile = NDArray[np.uint8]
Loop = Callable[[Slide, TileGrid], Iterator[Tile]]


@dataclass(frozen=True)
class Case:
    """A slide, and the resolution at which its tiles are read."""

    name: str
    path: Path
    mpp: float = 0.5


@dataclass(frozen=True)
class Row:
    """What was measured for one case; rates are medians, in tiles per second of processor time."""

    name: str
    tiles: int
    region_px: int
    usual: float
    openslide_best_level: float
    ours: float
    ratio: float
    ratio_wall: float
    ratio_to_best_level: float
    mean_abs_difference: float
    mean_abs_difference_to_best_level: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(case, arguments.rounds) for case in cases(arguments.data, Path(folder))]
    path = write_result("tiling", {"rounds": arguments.rounds, "cases": [asdict(r) for r in rows]})
    print(f"written: {path}")


def cases(data: Path, folder: Path) -> Iterator[Case]:
    """Large made slides, then the real ones if they are there."""
    picture, source = _texture(data, folder)
    for subsampling in ("420", "422"):
        path = folder / f"made_{subsampling}.tif"
        write_large_slide(
            path, picture, width=81_920, height=65_536, mpp=0.25, subsampling=subsampling
        )
        yield Case(f"made 40x, {source}, JPEG Q70 {subsampling}, levels 1 4 16 64", path)
    for path in sorted((data / "slides").glob("breast_*.tiff")):
        yield Case(f"{path.stem}, 40x, JPEG Q90 420, levels 1 2 4", path)
        alone = folder / f"{path.stem}_level0.tif"
        _copy_level0(path, alone)
        yield Case(f"{path.stem}, the same stored tiles without the smaller levels", alone)
    for path in sorted((data / "slides").glob("*.svs")):
        yield Case(f"{path.stem}, Aperio 20x, at 1.0 µm/px (512 to 256 px)", path, 1.0)
        yield Case(f"{path.stem}, Aperio 20x, at its own 0.5 µm/px", path)


def measure(case: Case, rounds: int) -> Row:
    """Run the three loops in turn, ``rounds`` times."""
    loops: dict[str, Loop] = {"usual": _usual, "best": _openslide_best, "ours": _ours}
    cpu: dict[str, list[float]] = {name: [] for name in loops}
    wall: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            with open_slide(SlideRecord("slide", case.path), inspect=False) as slide:
                grid = _grid(slide, case.mpp)
                cpu_start, wall_start = time.process_time(), time.perf_counter()
                count = sum(1 for _ in loop(slide, grid))
                cpu[name].append(count / (time.process_time() - cpu_start))
                wall[name].append(count / (time.perf_counter() - wall_start))
    rate = {name: statistics.median(rates) for name, rates in cpu.items()}
    row = Row(
        name=case.name,
        tiles=len(grid),
        region_px=grid.tile_px_level0,
        usual=round(rate["usual"], 1),
        openslide_best_level=round(rate["best"], 1),
        ours=round(rate["ours"], 1),
        ratio=_ratio(cpu["ours"], cpu["usual"]),
        ratio_wall=_ratio(wall["ours"], wall["usual"]),
        ratio_to_best_level=_ratio(cpu["ours"], cpu["best"]),
        mean_abs_difference=_difference(case, _usual),
        mean_abs_difference_to_best_level=_difference(case, _openslide_best),
    )
    print(
        f"{row.name}\n    usual {row.usual:.0f}/s, ours {row.ours:.0f}/s: {row.ratio:.1f} times "
        f"(wall {row.ratio_wall:.1f}), difference {row.mean_abs_difference:.2f}; to OpenSlide at "
        f"the same level {row.ratio_to_best_level:.1f} times, "
        f"{row.mean_abs_difference_to_best_level:.2f}",
        flush=True,
    )
    return row


def _usual(slide: Slide, grid: TileGrid) -> Iterator[Tile]:
    """The loop as it is usually written."""
    size = grid.tile_px_level0
    with openslide.OpenSlide(slide.path) as handle:
        for x, y in grid.coords:
            region = handle.read_region((int(x), int(y)), 0, (size, size)).convert("RGB")
            yield np.asarray(region.resize((grid.tile_px, grid.tile_px)))


def _openslide_best(slide: Slide, grid: TileGrid) -> Iterator[Tile]:
    return read_tiles(slide, grid, reader="openslide")


def _ours(slide: Slide, grid: TileGrid) -> Iterator[Tile]:
    return read_tiles(slide, grid, reader="jpeg")


def _grid(slide: Slide, mpp: float) -> TileGrid:
    """Tiles that lie wholly on the slide, from its middle row on."""
    size = level0_tile_px(TILE_PX, mpp, slide.mpp)
    columns = np.arange(0, slide.width - size + 1, size)
    rows = np.arange(0, slide.height - size + 1, size)
    coords = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.int64)
    start = len(rows) // 2 * len(columns) if len(coords) > 2 * MAX_TILES else 0
    coords = coords[start : start + MAX_TILES]
    return TileGrid("slide", coords, TILE_PX, size, mpp, slide.mpp, slide.width, slide.height)


def _difference(case: Case, reference: Loop) -> float:
    """Mean absolute difference of ours to ``reference``, in grey levels."""
    with open_slide(SlideRecord("slide", case.path), inspect=False) as slide:
        grid = _grid(slide, case.mpp)
        pairs = zip(reference(slide, grid), _ours(slide, grid), strict=True)
        means = [np.abs(theirs.astype(np.int16) - ours).mean() for theirs, ours in pairs]
    return round(float(np.mean(means)), 3)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def _texture(data: Path, folder: Path) -> tuple[NDArray[np.uint8], str]:
    """4096 px of a real 40x H&E field, or of a phantom where there is none."""
    fields = sorted((data / "breast_fields" / "images").glob("*"))
    if fields:
        return repeat_to_cell(np.asarray(Image.open(fields[0]).convert("RGB"))), "real H&E texture"
    with tifffile.TiffFile(draw_demo_slides(folder, count=1)[0]) as tiff:
        return repeat_to_cell(tiff.asarray()[:CELL, :CELL]), "phantom texture"


def _copy_level0(source: Path, target: Path) -> None:
    """The same stored JPEG tiles in a TIFF of one level."""
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        streams = []
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(offset)
            streams.append(tiff.filehandle.read(size))
        level = TiffLevel(
            page.imagewidth, page.imagelength, page.tilewidth, streams, range(len(streams))
        )
    write_tiff(target, [level], 0.25)


if __name__ == "__main__":
    main()
