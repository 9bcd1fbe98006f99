"""The hub in a federation: simulate one, ask for rounds, and see what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub_server.commands.options import Json, show_rows
from pixcell_share import console

if TYPE_CHECKING:
    from hub_server.federation.simulating import Simulated

Tiles = Annotated[int, typer.Option("--tiles-per-class", help="Synthetic tiles of each class.")]
Model = Annotated[str, typer.Option(help="A model that the sites' policies name.")]


def simulate(
    sites: Annotated[int, typer.Option(help="How many sites.")] = 2,
    slides: Annotated[
        list[Path] | None,
        typer.Option(help="A site's slides with slides.csv; once for each site. (default: drawn)"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; run again to go on.")] = Path("simulation"),
    tiles_per_class: Tiles = 8,
    model: Model = "nano",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    as_json: Json = False,
) -> None:
    """Try a federation on this machine: sites make and send cohorts, the hub trains on them.

    Flower simulates the sites, with the apps of a real federation. Needs the extra `federation`.

    \b
    pixcell-hub simulate --sites 2
    pixcell-hub simulate --slides ./wsi-a --slides ./wsi-b --tiles-per-class 100
    """
    from hub_server.federation.simulating import SimulateSettings
    from hub_server.federation.simulating import simulate as run
    from pixcell_share.federation import CohortAsk
    from pixcell_share.progress import choose_view

    ask = CohortAsk(tiles_per_class=tiles_per_class, model=model, steps=steps)
    settings = SimulateSettings(out=out, sites=sites, slides=tuple(slides or ()), ask=ask)
    with choose_view() as view:
        done = run(settings, view.say)
    _show(done, as_json)


def _show(done: Simulated, as_json: bool) -> None:
    from hub_server.federation.figures import COLUMNS, cohort_rows

    rows = cohort_rows(done.answers)
    if as_json:
        found = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        console.print_json({"round": done.round.id, "sites": found, "exit_code": 0})
        return
    show_rows(COLUMNS, rows, "no site answered")
