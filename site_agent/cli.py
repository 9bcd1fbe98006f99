"""`pixcell-site`: what a data manager types. It parses, calls and prints.

Each command imports what it runs: torch and diffusers take seconds, and ``--help`` needs neither.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pixcell_share import console
from site_agent import hub_commands
from site_agent.federation import commands as federation_commands
from site_agent.options import (
    AuditEncoder,
    AuditWeights,
    BatchSize,
    BlockCache,
    Compile,
    Device,
    Dtype,
    Encoder,
    GuidanceInterval,
    Holdout,
    Home,
    Json,
    LabelColumn,
    Model,
    Mpp,
    PatientColumn,
    Slides,
    Steps,
    Table,
    Tiles,
    TrustRemoteCode,
    Vae,
    Weights,
)

app = console.application(
    "Make a synthetic copy of a slide cohort, check what it gives away, and sign it.",
    """
    First run:   pixcell-site init --site hospital-a
                 pixcell-site doctor --slides ./wsi
                 pixcell-site synthesize --slides ./wsi
    """,
)


@app.command()
def init(
    site: Annotated[str, typer.Option(help="Public label, written into every bundle.")] = "site",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the site's key pair and site.toml.

    Example: pixcell-site init --site hospital-a
    """
    from site_agent.home import SiteHome
    from site_agent.home_printing import show_key

    place = SiteHome.locate(home)
    show_key(place, place.initialise(site), as_json)


@app.command()
def doctor(
    slides: Slides = None,
    tiles: Tiles = None,
    table: Table = None,
    patient_column: PatientColumn = "case_id",
    label_column: LabelColumn = "label",
    mpp: Mpp = None,
    model: Model = "nano",
    vae: Vae = None,
    encoder: Encoder = None,
    weights: Weights = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Work folder of the run to come.")] = Path("run"),
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say beforehand what would fail, each with its remedy. Exit 0 or 1.

    Example: pixcell-site doctor --slides ./wsi --model StonyBrook-CVLab/PixCell-256
    """
    from site_agent import printing
    from site_agent.doctor import DoctorSettings, run_doctor
    from site_agent.home import SiteHome

    settings = DoctorSettings(
        slides=slides, tiles=tiles, table=table, patient_column=patient_column,
        label_column=label_column, mpp=mpp, model=model, encoder=encoder, weights=weights,
        vae=vae, trust_remote_code=trust_remote_code, device=device, out=out,
        home=SiteHome.locate(home).folder,
    )  # fmt: skip
    raise typer.Exit(printing.show_checks(run_doctor(settings), as_json))


@app.command()
def synthesize(
    slides: Slides = None,
    tiles: Tiles = None,
    out: Annotated[Path, typer.Option(help="Work folder; run again to go on.")] = Path("run"),
    table: Table = None,
    patient_column: PatientColumn = "case_id",
    label_column: LabelColumn = "label",
    mpp: Mpp = None,
    model: Model = "nano",
    vae: Vae = None,
    encoder: Encoder = None,
    weights: Weights = None,
    trust_remote_code: TrustRemoteCode = False,
    tile_px: Annotated[int, typer.Option(help="Side of a tile: 256, 512 or 1024.")] = 256,
    tile_mpp: Annotated[float, typer.Option(help="Resolution of tiles in µm/px.")] = 0.5,
    coords: Annotated[
        Path | None, typer.Option(help="Folder of existing TRIDENT *_patches.h5.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of existing TRIDENT features of this encoder.")
    ] = None,
    holdout: Holdout = 0.2,
    mix: Annotated[
        int, typer.Option(help="Patients behind each synthetic tile: 5 reveals less than 1.")
    ] = 1,
    dp_epsilon: Annotated[
        float | None,
        typer.Option(
            help="Condition on differentially private statistics with this epsilon.",
            show_default=False,
        ),
    ] = None,
    dp_delta: Annotated[float, typer.Option(help="Its delta; must be below 1 / patients.")] = 1e-5,
    audit_encoder: AuditEncoder = None,
    audit_weights: AuditWeights = None,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(
            help="Latent store that the model was trained on, for a model trained on "
            "this site's tiles; may be given more than once.",
            show_default=False,
        ),
    ] = None,
    per_tile: Annotated[int, typer.Option(help="Synthetic tiles for each real tile.")] = 1,
    max_tiles: Annotated[
        int | None, typer.Option(help="Use at most this many real tiles of each slide.")
    ] = None,
    steps: Steps = 20,
    guidance_scale: Annotated[
        float | None,
        typer.Option(help="Guidance. (default: the model's own; 2.0 at 256 px, 1.2 at 1024 px)"),
    ] = None,
    guidance_interval: GuidanceInterval = None,
    block_cache: BlockCache = None,
    compile_blocks: Compile = False,
    batch_size: BatchSize = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    array: Annotated[
        str | None,
        typer.Option(help="Do part 2 of 8 as 2/8; the command without --array joins the parts."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show plan, time and disk; do nothing.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """From a folder of slides to a signed synthetic bundle. Run it again to go on.

    Some patients are set aside as a control group. Before anything is signed the cohort is
    attacked: audit.html says what was found. There is no way to sign a refused cohort.

    Exit: 0 done, 1 failed, 2 bad usage, 3 done but some slides were left out, 4 refused by the
    gate.

    \b
    pixcell-site synthesize --slides ./wsi
    pixcell-site synthesize --slides ./wsi --table slides.csv --model ./PixCell-256 --out run1
    pixcell-site synthesize --slides ./wsi --table slides.csv --mix 5
    pixcell-site synthesize --tiles ./tiles --table tiles.csv --patient-column patient
    pixcell-site synthesize --slides ./wsi --array 2/8
    """
    from pixcell_share.pixcell import SamplerSettings
    from pixcell_share.pixcell.sampler import parse_batch_size, parse_interval
    from pixcell_share.progress import choose_view
    from pixcell_share.slides import TilingSettings
    from site_agent import printing
    from site_agent.home import SiteHome
    from site_agent.pipeline import synthesize as run_synthesize
    from site_agent.plan import make_plan
    from site_agent.settings import Part, SynthesisSettings

    settings = SynthesisSettings(
        slides=slides, tiles=tiles, out=out, table=table, patient_column=patient_column,
        label_column=label_column, mpp=mpp, coords=coords, features=features,
        tiling=TilingSettings(tile_px=tile_px, mpp=tile_mpp),
        model=model, vae=vae, encoder=encoder, weights=weights,
        trust_remote_code=trust_remote_code,
        holdout=holdout, mix=mix, dp_epsilon=dp_epsilon, dp_delta=dp_delta,
        audit_encoder=audit_encoder, audit_weights=audit_weights,
        trained_on=tuple(trained_on or ()),
        per_tile=per_tile, max_tiles=max_tiles,
        sampler=SamplerSettings(
            steps=steps, guidance_scale=guidance_scale, batch_size=parse_batch_size(batch_size),
            guidance_interval=parse_interval(guidance_interval), block_cache=block_cache,
            compile=compile_blocks,
        ),
        device=device, dtype=dtype, part=Part.parse(array) if array else None,
    )  # fmt: skip
    with choose_view() as view:
        if dry_run:
            printing.show_plan(make_plan(settings, view), as_json)
            return
        place = SiteHome.locate(home)
        key = place.load_or_create_key(view.say)
        outcome = run_synthesize(settings, place, key, view)
    printing.show_outcome(outcome, place, as_json)
    raise typer.Exit(outcome.exit_code)


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="Work folder of a run: its --out.")],
    seed: Annotated[int, typer.Option(help="Other controls, samples and bootstrap draws.")] = 1,
    synthetic: Annotated[
        Path | None,
        typer.Option(
            help="Judge these tiles in place of the run's: a folder of pictures (a "
            "sub-folder a class), or a bundle.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[str, typer.Option("--format", help="text, or json for machines.")] = "text",
    home: Home = None,
) -> None:
    """Attack a cohort again, with another seed, or tiles from elsewhere. Signs nothing.

    RUN is the work folder of a run. Writes audit-seed-N.html and .json into it.
    Exit: 0 PASS, 4 REFUSE or INVALID.

    \b
    pixcell-site audit run --seed 7
    pixcell-site audit run --synthetic ./chosen-tiles --format json
    """
    from pixcell_share.progress import choose_view
    from site_agent import printing
    from site_agent.auditing import audit_run
    from site_agent.home import SiteHome

    as_json = printing.wants_json(output)
    place = SiteHome.locate(home)
    with choose_view() as view:
        outcome = audit_run(run, place, place.load_key(), view, seed=seed, synthetic=synthetic)
    printing.show_audit(outcome, as_json)
    raise typer.Exit(outcome.exit_code)


@app.command()
def frontier(
    slides: Slides = None,
    tiles: Tiles = None,
    out: Annotated[Path, typer.Option(help="Work folder; run again to go on.")] = Path("frontier"),
    table: Table = None,
    patient_column: PatientColumn = "case_id",
    label_column: LabelColumn = "label",
    mpp: Mpp = None,
    mix: Annotated[str, typer.Option(help="Patients behind each tile, to compare.")] = "1,2,5,10",
    dp_epsilon: Annotated[str, typer.Option(help="Epsilons to compare; empty for none.")] = "1,3,8",
    guidance_scale: Annotated[
        str, typer.Option(help="Guidance scales to compare; empty for the model's own.")
    ] = "",
    holdout: Holdout = 0.2,
    audit_encoder: AuditEncoder = None,
    audit_weights: AuditWeights = None,
    model: Model = "nano",
    vae: Vae = None,
    encoder: Encoder = None,
    weights: Weights = None,
    tile_px: Annotated[int, typer.Option(help="Side of a tile: 256, 512 or 1024.")] = 256,
    tile_mpp: Annotated[float, typer.Option(help="Resolution of tiles in µm/px.")] = 0.5,
    max_tiles: Annotated[
        int | None, typer.Option(help="Use at most this many real tiles of each slide.")
    ] = None,
    steps: Steps = 20,
    batch_size: BatchSize = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare settings: what a cohort is good for, beside what it gives away.

    Draws and attacks one cohort for each setting; signs nothing. Writes frontier.json, .md and
    .svg. Needs tens of patients.

    \b
    pixcell-site frontier --slides ./wsi --table slides.csv --max-tiles 16
    pixcell-site frontier --tiles ./tiles --table tiles.csv --mix 1,5 --dp-epsilon 3
    """
    from pixcell_share.pixcell import SamplerSettings
    from pixcell_share.pixcell.sampler import parse_batch_size
    from pixcell_share.progress import choose_view
    from pixcell_share.slides import TilingSettings
    from site_agent import printing
    from site_agent.frontier import FrontierSettings, make_frontier, parse_numbers
    from site_agent.home import SiteHome
    from site_agent.settings import SynthesisSettings

    settings = FrontierSettings(
        run=SynthesisSettings(
            slides=slides, tiles=tiles, out=out, table=table, patient_column=patient_column,
            label_column=label_column, mpp=mpp, holdout=holdout, audit_encoder=audit_encoder,
            audit_weights=audit_weights, model=model, vae=vae, encoder=encoder, weights=weights,
            tiling=TilingSettings(tile_px=tile_px, mpp=tile_mpp), max_tiles=max_tiles,
            sampler=SamplerSettings(steps=steps, batch_size=parse_batch_size(batch_size)),
            device=device, dtype=dtype,
        ),
        mixes=tuple(int(mix) for mix in parse_numbers("--mix", mix)),
        epsilons=parse_numbers("--dp-epsilon", dp_epsilon),
        guidance_scales=parse_numbers("--guidance-scale", guidance_scale) or (None,),
    )  # fmt: skip
    with choose_view() as view:
        place = SiteHome.locate(home)
        found = make_frontier(settings, place, place.load_or_create_key(view.say), view)
    printing.show_frontier(found, as_json)


@app.command()
def ledger(home: Home = None, as_json: Json = False) -> None:
    """Verify the ledger of releases and show what the patients took part in.

    Example: pixcell-site ledger
    """
    from site_agent.home import SiteHome
    from site_agent.home_printing import show_ledger

    place = SiteHome.locate(home)
    key = place.load_key()
    show_ledger(place.ledger(key).verify(), place.config().budget, as_json)


@app.command()
def bench(
    slides: Annotated[
        Path | None, typer.Option(help="Folder of slides. (default: a drawn slide)")
    ] = None,
    model: Model = "nano",
    vae: Vae = None,
    encoder: Encoder = None,
    weights: Weights = None,
    steps: Steps = 20,
    guidance_interval: GuidanceInterval = None,
    block_cache: BlockCache = None,
    compile_blocks: Compile = False,
    batch_size: BatchSize = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Tiles a second for reading, embedding and generating, and each one's share of the time.

    Example: pixcell-site bench --slides ./wsi --model ./PixCell-256 --device cuda
    """
    from pixcell_share.pixcell import SamplerSettings
    from pixcell_share.pixcell.sampler import parse_batch_size, parse_interval
    from site_agent import printing
    from site_agent.bench import run_bench
    from site_agent.settings import SynthesisSettings

    configure = partial(
        SynthesisSettings, model=model, vae=vae, encoder=encoder, weights=weights,
        sampler=SamplerSettings(
            steps=steps, batch_size=parse_batch_size(batch_size),
            guidance_interval=parse_interval(guidance_interval), block_cache=block_cache,
            compile=compile_blocks,
        ),
        device=device, dtype=dtype,
    )  # fmt: skip
    rates = run_bench(slides, configure)
    printing.show_rates(rates, as_json)


@app.command()
def region(
    slide: Annotated[Path, typer.Option(help="One slide.")],
    x: Annotated[int, typer.Option(help="Left edge in pixels of level 0.")],
    y: Annotated[int, typer.Option(help="Upper edge in pixels of level 0.")],
    size: Annotated[int, typer.Option(help="Side in px: 1024, 2048 or 4096.")] = 1024,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG or TIFF. (default: region.png; region.tif above 4096 px)"),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Also write real and synthetic side by side.")
    ] = False,
    mpp: Mpp = None,
    tile_mpp: Annotated[float, typer.Option(help="Resolution of the picture in µm/px.")] = 0.5,
    model: Annotated[
        str, typer.Option(help="A model that takes a grid of embeddings, such as PixCell-1024.")
    ] = "nano-1024",
    vae: Vae = None,
    lora: Annotated[Path | None, typer.Option(help="A LoRA for the model.")] = None,
    encoder: Encoder = None,
    weights: Weights = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Annotated[int, typer.Option(help="Another seed gives another picture.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Guidance. (default: the model's own)")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Latent pixels between windows. (default: half a window)"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Windows computed together.")] = 4,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """One large synthetic picture of one region, to look at. Private: it is not checked.

    Example: pixcell-site region --slide S001.svs --x 20000 --y 12000 --size 4096 --beside
    """
    from pixcell_share.pixcell.large import LargeSettings
    from pixcell_share.progress import choose_view
    from site_agent import printing
    from site_agent.region import RegionSettings, make_region
    from site_agent.settings import SynthesisSettings

    run = SynthesisSettings(
        slides=slide, out=Path(), mpp=mpp, model=model, vae=vae, encoder=encoder, weights=weights,
        trust_remote_code=trust_remote_code, device=device, dtype=dtype,
    )  # fmt: skip
    settings = RegionSettings(
        run=run, x=x, y=y, size=size, mpp=tile_mpp, out=out, beside=beside, seed=seed, lora=lora,
        sampler=LargeSettings(
            steps=steps, guidance_scale=guidance_scale, stride=stride, batch_size=batch_size
        ),
    )  # fmt: skip
    with choose_view() as view:
        outcome = make_region(settings, view)
    printing.show_region(outcome, as_json)


@app.command()
def demo_slides(
    folder: Annotated[Path, typer.Argument(help="Where to write the slides.")],
    count: Annotated[int, typer.Option(help="How many slides, each of a patient.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed gives other slides.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw H&E-like slides to try everything on: no patient is in them.

    Example: pixcell-site demo-slides ./demo-wsi
    """
    from pixcell_share.slides import draw_demo_slides
    from site_agent.home_printing import show_paths

    show_paths("drew", draw_demo_slides(folder, count=count, seed=seed), as_json)


@app.command()
def demo_tiles(
    folder: Annotated[Path, typer.Argument(help="Where to write the tiles; made by this.")],
    seed: Annotated[int, typer.Option(help="Another seed gives other tiles.")] = 77,
    as_json: Json = False,
) -> None:
    """Draw H&E-like tiles of three classes in train, val and test, to try an evaluation on.

    Example: pixcell-site demo-tiles ./demo-tiles
    """
    from pixcell_share.slides import draw_demo_tiles
    from site_agent.home_printing import show_drawn_tiles

    show_drawn_tiles(folder, draw_demo_tiles(folder, seed=seed), as_json)


for command in (
    hub_commands.join,
    hub_commands.send,
    hub_commands.rotate_key,
    federation_commands.approve,
    federation_commands.agent,
    federation_commands.status,
):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
