"""`pixcell-train latents`: slides or pictures become what the trainer reads.

It parses, calls and prints.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pixcell_share import console
from pixcell_share.errors import SettingsError

latents = console.application(
    "Make latent stores for training, count them, check them.",
    """
    Example: pixcell-train latents --slides ./wsi --table slides.csv --out store
             pixcell-train latents --regions ./tiles --region-px 256 --vae nano --encoder nano --out store
             pixcell-train latents summary store
             pixcell-train latents check store
    """,  # noqa: E501
)


class HoldoutBy(StrEnum):
    """What is held out as a whole."""

    slide = "slide"
    patch = "patch"


Stores = Annotated[list[Path], typer.Argument(help="Folders of stores.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")]


@latents.callback(invoke_without_command=True, no_args_is_help=True)
def make(
    context: typer.Context,
    slides: Annotated[
        Path | None, typer.Option(help="Folder of slides; sub-folders are searched.")
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="Folder of pictures (png, jpg, tiff) that are regions.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the store; run again to go on.")] = Path(
        "store"
    ),
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV: slide,mpp,case_id,label,organ,source,split for slides, "
            "file,slide,case,organ,source,split for pictures."
        ),
    ] = None,
    region_px: Annotated[int, typer.Option(help="Side of a region: 1024, 512 or 256.")] = 1024,
    mpp: Annotated[
        float | None,
        typer.Option(help="µm/px of the regions. (default: 0.5 for slides, unknown for pictures)"),
    ] = None,
    slide_mpp: Annotated[
        float | None, typer.Option(help="µm/px of level 0, for slides that do not carry it.")
    ] = None,
    overlap_px: Annotated[
        int, typer.Option(help="How far neighbouring regions of a slide overlap, px.")
    ] = 0,
    resize: Annotated[bool, typer.Option(help="Resize pictures of another size.")] = False,
    vae: Annotated[
        str, typer.Option(help="nano, a folder, or a repository with a folder vae.")
    ] = "stabilityai/stable-diffusion-3.5-large",
    encoder: Annotated[str, typer.Option(help="Encoder: uni2h, nano, ...")] = "uni2h",
    weights: Annotated[
        str | None, typer.Option(help="Folder or repository of the encoder's weights.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Let an encoder that ships as code (KEEP) run it.")
    ] = False,
    holdout: Annotated[float, typer.Option(help="Share that is kept from training.")] = 0.1,
    holdout_by: Annotated[
        HoldoutBy,
        typer.Option(help="Whole slides (or cases, where the table names them), or patches."),
    ] = HoldoutBy.slide,
    shard_mb: Annotated[float, typer.Option(help="Size of a shard in MiB.")] = 2048,
    turns: Annotated[int, typer.Option(help="Orientations stored of each region, 1 to 8.")] = 1,
    limit: Annotated[
        int | None, typer.Option(help="At most this many regions, for a trial.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Regions encoded together. (default: fits the device)")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    as_json: Json = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error came from.")
    ] = False,
) -> None:
    """Make latent stores for training, count them, check them.

    Without a command: encode the regions of slides, or pictures. Run it again to go on.

    Exit: 0 done, 1 failed, 2 bad usage, 3 done but some slides or pictures were left out.
    """
    if context.invoked_subcommand is not None:
        return
    if slides is None and regions is None:
        raise SettingsError("nothing to read was named", "give --slides or --regions")
    from pixcell_share.progress import choose_view
    from pixcell_share.training.latents.make import make_store
    from pixcell_share.training.latents.models import CoderSettings
    from pixcell_share.training.latents.printing import show_made
    from pixcell_share.training.latents.settings import LatentSettings
    from pixcell_share.training.latents.split import Holdout

    settings = LatentSettings(
        slides=slides, regions=regions, out=out, table=table, region_px=region_px, mpp=mpp,
        slide_mpp=slide_mpp, overlap_px=overlap_px, resize=resize,
        holdout=Holdout(holdout, holdout_by.value),
        shard_mb=shard_mb, turns=turns, limit=limit, batch_size=batch_size,
        coder=CoderSettings(vae, encoder, weights, trust_remote_code, device, dtype),
    )  # fmt: skip
    with choose_view() as view:
        made = make_store(settings, view)
    raise typer.Exit(show_made(made, as_json))


@latents.command()
def summary(stores: Stores, as_json: Json = False) -> None:
    """Count slides, cases, regions and patches by source and by organ.

    Example: pixcell-train latents summary store store-breast
    """
    from pixcell_share.training.latents.printing import show_summary
    from pixcell_share.training.latents.summary import summarise

    show_summary(summarise(stores), as_json)


@latents.command()
def check(stores: Stores, as_json: Json = False) -> None:
    """Read every number and name each bad shard or row. Exit 0 or 1.

    Example: pixcell-train latents check store
    """
    from pixcell_share.progress import choose_view
    from pixcell_share.training.latents.check import check_stores
    from pixcell_share.training.latents.printing import show_faults

    with choose_view() as view:
        faults = check_stores(stores, view)
    raise typer.Exit(show_faults(faults, stores, as_json))
