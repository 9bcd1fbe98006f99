"""Make the README's picture from the result of `make demo`.

    python docs/images/demo_pairs.py demo/run

Upper row: tiles of the drawn slides. Lower row: what nano drew from their embeddings.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from pixcell_share.bundles import SiteKey
from pixcell_share.slides import SlideRecord, open_slide
from site_agent.groups import conditioning_tiles
from site_agent.run_folder import SlideState

EACH, SIDE, GAP = 1, 192, 6


def main(run: Path) -> None:
    columns, key = [], SiteKey.load(run.parent / "site" / "site.key")
    for draws in sorted((run / "work" / "draws").iterdir()):
        synthetic = np.load(draws / "00000.npy")
        features = run / "20x_256px_0px_overlap" / "features_nano" / f"{draws.name}.h5"
        with h5py.File(features) as file:
            coords = file["coords"][:]
        state = SlideState(slide_id=draws.name, source={}, tiles=len(coords))
        chosen = conditioning_tiles(state, len(synthetic), key)
        slide_file = run.parent / "slides" / f"{draws.name}.tiff"
        with open_slide(SlideRecord(draws.name, slide_file)) as slide:
            for place in np.linspace(0, len(synthetic) - 1, EACH).astype(int):
                x, y = coords[chosen[place]]
                real = slide.region(int(x), int(y), 256, 0.5)
                columns.append((real, synthetic[place]))
    sheet = Image.new("RGB", (len(columns) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for column, pair in enumerate(columns):
        for row, tile in enumerate(pair):
            picture = Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (column * (SIDE + GAP), row * (SIDE + GAP)))
    sheet.save(Path(__file__).with_name("demo_pairs.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
