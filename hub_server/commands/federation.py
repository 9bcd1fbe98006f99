"""The hub in a federation: simulate one, ask for rounds, and see what came."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import click
import typer

from hub_server.commands.options import ACTOR, Home, Json, show_fields
from hub_server.federation.printing import exit_code, show_round, show_rounds, show_simulated
from pixcell_share.federation.kinds import RoundKind

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
    adapter: Annotated[
        float | None,
        typer.Option(
            help="Then train an adapter together, with this epsilon for each patient.",
            show_default=False,
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Real nodes as processes, with TLS and node keys.")
    ] = False,
    train_steps: Annotated[
        int, typer.Option(help="Steps of the encoder that the hub trains; 0 trains none.")
    ] = 60,
    as_json: Json = False,
) -> None:
    """Try a federation on this machine: sites make and send cohorts, the hub trains on them.

    Flower simulates the sites, with the apps of a real federation; with --local they are agents
    as processes. Needs the extra `federation`. Run it again to go on with the same hub and sites.

    \b
    pixcell-hub simulate --sites 2
    pixcell-hub simulate --sites 2 --adapter 3
    pixcell-hub simulate --sites 2 --local
    pixcell-hub simulate --slides ./wsi-a --slides ./wsi-b --tiles-per-class 100
    """
    from hub_server.federation.simulating import SimulateSettings
    from hub_server.federation.simulating import simulate as run
    from pixcell_share.progress import choose_view

    asked = {"tiles_per_class": str(tiles_per_class), "model": model, "steps": str(steps)}
    wanted: dict[RoundKind, dict[str, str]] = {RoundKind.COHORT: asked}
    if adapter is not None:
        trained = {"epsilon": str(adapter), "model": model, "rounds": "1", "steps": "2"}
        wanted[RoundKind.ADAPTER] = {**trained, "patients_per_step": "4", "tiles_per_patient": "1"}
    settings = SimulateSettings(
        out=out, sites=sites, slides=tuple(slides or ()), local=local, rounds=wanted,
        train_steps=train_steps,
    )  # fmt: skip
    with choose_view() as view:
        done = run(settings, view.say)
    show_simulated(done, as_json)


def ask(
    kind: Annotated[
        str,
        typer.Argument(
            help="What is asked.", click_type=click.Choice([k.value for k in RoundKind])
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Such as tiles_per_class=100, or model=nano; repeatable."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The hub's encoder that a round is about, by name or id.")
    ] = None,
    expect: Annotated[
        int, typer.Option(help="Sites counted on: with so many answers the round ends early.")
    ] = 0,
    wait: Annotated[float, typer.Option(help="Seconds that answers are waited for.")] = 3600.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Open the round, and end.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Ask all sites of a federation. The hub has to be served with --federation.

    KIND is cohort, adapter, encoder or probe. A site that refuses, or is away, holds nothing up.

    \b
    pixcell-hub ask cohort --set tiles_per_class=100
    pixcell-hub ask cohort --set dp_epsilon=3 --expect 2
    pixcell-hub ask adapter --set epsilon=3 --set rounds=4 --set steps=400
    pixcell-hub ask encoder --encoder first --set classes=tumour,stroma
    """
    from hub_server.acts import Acts
    from hub_server.federation.opening import open_round, watch_round
    from hub_server.federation.places import Places
    from hub_server.federation.preparing import prepare
    from hub_server.federation.rounds import RoundFolder
    from hub_server.home import HubHome

    words = dict(_pair(word) for word in set_ or ())
    place = HubHome.locate(home)
    asked = RoundKind(kind)
    with Acts.opened(place, ACTOR) as acts:
        document, arrays = prepare(acts, asked, words, encoder)
        made = open_round(acts, asked, document, arrays, expected=expect, wait_s=wait)
    folder = RoundFolder(Places(place).rounds / made.id)
    if not no_wait:
        made = watch_round(folder)
    show_round(folder, as_json)
    raise typer.Exit(exit_code(made))


def rounds(
    number: Annotated[
        str | None, typer.Argument(help="Of one round, or its beginning.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List the rounds of a federation, or show one with what each site answered.

    \b
    pixcell-hub rounds
    pixcell-hub rounds 3a6dbab2
    """
    from hub_server.federation.places import Places
    from hub_server.federation.rounds import RoundFolder, all_rounds, find_round
    from hub_server.home import HubHome

    places = Places(HubHome.locate(home))
    if number is not None:
        found = find_round(places, number)
        show_round(RoundFolder(places.rounds / found.id), as_json)
        return
    show_rounds(all_rounds(places), as_json)


def app(
    out: Annotated[
        Path | None, typer.Option(help="Also write its source, for Flower's own commands.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the hash of the app that sites have to approve. It carries no code.

    \b
    pixcell-hub app
    pixcell-hub app --out ./pixcell-share
    """
    from pixcell_share.federation.app_bundle import build_app_bundle, bundle_hash, write_source
    from pixcell_share.federation.environment import settle

    with TemporaryDirectory() as folder:
        settle(Path(folder))
        sha256 = bundle_hash(build_app_bundle())
    if out is not None:
        write_source(out)
    show_fields({"sha256": sha256, "each_site_types": f"pixcell-site approve {sha256}"}, as_json)


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value
