"""What the tile checks of `lay_grid` cost beside reading, and the memory of a large slide.

Processor time on one core, the median of the rounds. The large slide is 100,000 x 80,000 px at
0.5 µm/px: 105,984 tiles of tissue, each of them read and checked once; its memory is that of a
process of its own, with the libraries that it imports.

    python benchmarks/survey.py [--data ../shared/data] [--rounds 5] [--skip-large]

Writes benchmarks/results/survey_<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _large_slide import repeat_to_cell, write_large_slide
from _results import write_result
from PIL import Image

from pixcell_share.slides import (
    SlideRecord,
    TileGrid,
    TilingSettings,
    draw_demo_slides,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)
from pixcell_share.slides.grid import reject_reason
from pixcell_share.slides.ink import ink_mask
from pixcell_share.slides.quality import edge_strength, is_glass, sharpness
from pixcell_share.slides.tiles import Reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-large", action="store_true")
    parser.add_argument("--survey", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.survey:
        print(json.dumps(survey(arguments.survey)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sorted((arguments.data / "slides").glob("*.[st][vi]*"))
        paths += draw_demo_slides(folder, count=1)
        result: dict[str, Any] = {"slides": [cost(path, arguments.rounds) for path in paths]}
        if not arguments.skip_large:
            result["large"] = large(arguments.data, folder)
    print(f"written: {write_result('survey', {'rounds': arguments.rounds, **result})}")


def cost(path: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time per tile: reading, all checks, and each check alone."""
    settings = TilingSettings()
    with open_slide(SlideRecord(path.stem, path)) as slide:
        grid = lay_grid(slide, find_tissue(slide), settings)
        tiles = list(read_tiles(slide, grid))[:80]
    pictures = [Image.fromarray(tile) for tile in tiles]
    overviews = [np.asarray(picture.reduce(8)) for picture in pictures]
    checks: dict[str, Callable[[int], object]] = {
        "all_checks": lambda i: reject_reason(tiles[i], settings),
        "edges": lambda i: edge_strength(tiles[i]),
        "focus": lambda i: sharpness(pictures[i], settings.mpp),
        "ink": lambda i: ink_mask(overviews[i], 4.0),
        "glass": lambda i: is_glass(overviews[i]),
    }
    row: dict[str, Any] = {"slide": path.stem, "report": grid.report.as_dict()}
    row["read_openslide_ms"] = _median(lambda: _read(path, grid, "openslide"), rounds, len(grid))
    row["read_auto_ms"] = _median(lambda: _read(path, grid, "auto"), rounds, len(grid))
    for name, check in checks.items():
        row[f"{name}_ms"] = _median(
            lambda c=check: [c(i) for i in range(len(tiles))], rounds, len(tiles)
        )
    row["checks_of_read"] = round(row["all_checks_ms"] / row["read_auto_ms"], 2)
    row["checks_of_read_openslide"] = round(row["all_checks_ms"] / row["read_openslide_ms"], 2)
    print(row, flush=True)
    return row


def large(data: Path, folder: Path) -> dict[str, Any]:
    """`survey` of the large slide in a process of its own."""
    field = sorted((data / "breast_fields" / "images").iterdir())[0]
    path = folder / "large.tif"
    write_large_slide(path, repeat_to_cell(np.asarray(Image.open(field).convert("RGB"))))
    command = [sys.executable, __file__, "--survey", str(path)]
    row: dict[str, Any] = json.loads(subprocess.check_output(command, text=True))
    print(row, flush=True)
    return row


def survey(path: Path) -> dict[str, Any]:
    """Tissue and grid of one slide: counts, time, and the peak memory of this process."""
    start = time.process_time()
    before = _peak_mib()
    with open_slide(SlideRecord(path.stem, path)) as slide:
        tissue = find_tissue(slide)
        found = time.process_time()
        grid = lay_grid(slide, tissue, TilingSettings(edge_threshold=0))
    return {
        "pixels": [grid.width, grid.height],
        "report": grid.report.as_dict(),
        "tissue_cpu_s": round(found - start, 1),
        "grid_cpu_s": round(time.process_time() - found, 1),
        "peak_mib": _peak_mib(),
        "peak_mib_of_the_imports": before,
    }


def _read(path: Path, grid: TileGrid, reader: Reader) -> None:
    """Read all tiles from a newly opened slide: nothing is in its cache."""
    with open_slide(SlideRecord(path.stem, path), inspect=False) as slide:
        for _ in read_tiles(slide, grid, reader=reader):
            pass


def _median(run: Callable[[], object], rounds: int, tiles: int) -> float:
    """Median milliseconds of processor time per tile."""
    run()  # what the first call of all pays for
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return round(statistics.median(times) / tiles * 1000, 3)


def _peak_mib() -> int:
    """Peak memory of this process; `getrusage` would count the one that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


if __name__ == "__main__":
    main()
