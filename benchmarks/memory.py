"""Peak memory of the main job on a slide of 100,000 x 80,000 px with about 100,000 tiles.

Two processes are measured by the system's own high-water mark: one that only loads the models and
works on one batch, and the whole `pixcell-site synthesize` on the large slide. The difference is
what the slide costs. All tiles are laid, read, embedded, fingerprinted and indexed for the
nearest-neighbour checks; generation is limited to a few hundred tiles, since it goes block by
block and a CPU would need hours for the rest. The models have random weights and are small, but
embeddings have 1,536 numbers, as UNI2-h's: what the slide costs does not depend on the weights.

    python benchmarks/memory.py [--tiles 256] [--keep FOLDER]

Writes benchmarks/results/memory_<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _large_slide import repeat_to_cell, write_large_slide
from _results import write_result

from pixcell_share.slides import (
    SlideRecord,
    draw_demo_slides,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)
from site_agent.home import SiteHome

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.tiny import make_tiny_model

LIMIT_GIB = 1.5

_BASELINE = """
import sys
import numpy as np
from pathlib import Path
from site_agent.models import Models
from site_agent.settings import SynthesisSettings
import site_agent.pipeline
model = Path(sys.argv[1])
settings = SynthesisSettings(
    slides=Path("."), out=Path("."), model=str(model), encoder="nano",
    weights=str(model / "encoder"),
)
models = Models(settings)
images = np.zeros((32, 256, 256, 3), np.uint8)
embeddings = models.embed(images)
for _ in models.generator.generate(embeddings[:16], range(16), settings.sampler):
    pass
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tiles", type=int, default=256, help="tiles to generate")
    options.add_argument("--keep", type=Path, help="folder to work in and keep")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        slides = folder / "wsi"
        slides.mkdir(parents=True, exist_ok=True)
        make_slide(slides / "large.tif")
        model = make_tiny_model(folder / "model", dim=1536, input_px=32, depth=0)
        home = SiteHome(folder / "site")
        home.initialise()
        # To an untrained encoder all tiles look alike.
        home.config_file.write_text("[near_copies]\nembedding_limit = 1.0\n")
        base_gib, _, _ = peak_of([sys.executable, "-c", _BASELINE, str(model)])
        command = [
            sys.executable, "-c", "from site_agent.cli import main; main()", "synthesize",
            "--slides", str(slides), "--out", str(folder / "run"), "--home", str(home.folder),
            "--model", str(model), "--encoder", "nano", "--weights", str(model / "encoder"),
            "--max-tiles", str(chosen.tiles), "--json",
        ]  # fmt: skip
        whole_gib, seconds, out = peak_of(command)
    result = {
        "slide_px": [100_000, 80_000],
        "counts": out["counts"],
        "models_peak_gib": round(base_gib, 3),
        "run_peak_gib": round(whole_gib, 3),
        "above_models_gib": round(whole_gib - base_gib, 3),
        "limit_gib": LIMIT_GIB,
        "seconds": round(seconds),
    }
    print(json.dumps(result, indent=2))
    write_result("memory", result, ("torch", "numpy", "h5py", "simplejpeg"))


def make_slide(path: Path) -> None:
    """The large slide: 64 tissue tiles of a drawn one, side by side and repeated."""
    with tempfile.TemporaryDirectory() as scratch:
        (drawn,) = draw_demo_slides(Path(scratch), count=1)
        with open_slide(SlideRecord("drawn", drawn)) as slide:
            grid = lay_grid(slide, find_tissue(slide))
            tiles = np.stack(list(read_tiles(slide, grid, 0, 64)))
    rows = tiles.reshape(8, 8, 256, 256, 3).transpose(0, 2, 1, 3, 4)
    write_large_slide(path, repeat_to_cell(rows.reshape(2048, 2048, 3)))


def peak_of(command: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Peak resident GiB, seconds, and the last line of output as JSON, of a process that ends well.

    `os.wait4` gives the high-water mark of just this child.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output, cwd=Path(__file__).resolve().parents[1])
        _, status, usage = os.wait4(child.pid, 0)
        output.seek(0)
        text = output.read().strip()
    if status:
        raise SystemExit(f"{command[:4]} failed with {os.waitstatus_to_exitcode(status)}: {text}")
    peak: resource.struct_rusage = usage
    line = text.splitlines()[-1] if text else "{}"
    return peak.ru_maxrss / 2**20, time.monotonic() - began, json.loads(line)


if __name__ == "__main__":
    main()
