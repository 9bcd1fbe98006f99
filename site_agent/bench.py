"""`pixcell-site bench`: how fast this machine is at each kind of work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pixcell_share.errors import SlideError
from pixcell_share.slides import (
    SlideRecord,
    TileGrid,
    draw_demo_slides,
    find_tissue,
    lay_grid,
    open_slide,
)
from site_agent.inputs import find_records
from site_agent.models import Models
from site_agent.rates import Rates, measure_rates
from site_agent.settings import SynthesisSettings

_READ, _EMBED = 256, 64


def run_bench(slides: Path | None, configure: Callable[..., SynthesisSettings]) -> Rates:
    """Rates on the first usable slide of a folder, or on a drawn one.

    Args:
        slides: folder of slides.
        configure: makes the settings, given the folders ``slides`` and ``out``.

    Raises:
        SlideError: no slide of the folder can be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = slides or Path(scratch)
        if slides is None:
            draw_demo_slides(folder, count=1)
        settings = configure(slides=folder, out=Path(scratch))
        record, grid = _first_usable(settings)
        return measure_rates(
            record,
            grid,
            Models(settings),
            settings,
            read_tiles_count=min(_READ, len(grid)),
            embed_count=_EMBED,
            generate_count=None,
        )


def _first_usable(settings: SynthesisSettings) -> tuple[SlideRecord, TileGrid]:
    problems = []
    for record in find_records(settings):
        try:
            with open_slide(record) as slide:
                tissue = find_tissue(slide, settings.tissue)
                return record, lay_grid(slide, tissue, settings.tiling)
        except SlideError as error:
            problems.append(error.cause)
    raise SlideError(f"no slide can be used: {'; '.join(problems)}", "run `pixcell-site doctor`")
