"""`pixcell-train`: what a model builder types. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixcell_share import console
from pixcell_share.nano.cli import nano
from pixcell_share.training.latents_cli import latents as latents_group

app = console.application(
    "Train generators and encoders.",
    """
    Example: pixcell-train latents --slides ./wsi --out latents
             pixcell-train run --stage 256 --latents latents --out stage-256
             pixcell-train run --stage 512 --latents latents --out stage-512 --init stage-256/model
    """,
)
_PRIVATE = "Differential privacy"

app.add_typer(latents_group, name="latents")
app.add_typer(nano, name="nano")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The original .ckpt file.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for --model.")],
    size: Annotated[
        int | None, typer.Option(help="Side of the images in px. (default: as the file tells)")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16. (default: as the file)")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads. (default: width / 72)")
    ] = None,
) -> None:
    """Write an original PixCell checkpoint as a folder that --model and diffusers read.

    Nothing in the file is run. The VAE is not part of it: name one with --vae.

    Example: pixcell-train convert pixcell_1024.ckpt --out PixCell-1024
    """
    from pixcell_share.pixcell.device import resolve_dtype
    from pixcell_share.pixcell.original import ConvertSettings, convert_checkpoint

    kind = resolve_dtype(dtype) if dtype else None
    settings = ConvertSettings(size_px=size, heads=heads, ema=ema, dtype=kind)
    typer.echo(f"{out}: {convert_checkpoint(checkpoint, out, settings).describe()}")


@app.command("run")
def run_stage(
    stage: Annotated[int, typer.Option(help="Side of the images in px: 256, 512 or 1024.")],
    latents: Annotated[
        list[str],
        typer.Option(help="A latent store, or STORE:REPEAT; may be given more than once."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    preset: Annotated[str, typer.Option(help="paper, came, nano or tiny.")] = "paper",
    init: Annotated[
        Path | None, typer.Option(help="Model folder of the stage before. (default: none)")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="(default: the preset's)")] = None,
    global_batch: Annotated[
        int | None, typer.Option(min=1, help="Images of a step. (default: the preset's)")
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images that a GPU computes at once. (default: the preset's)"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Highest learning rate. (default: the preset's)")
    ] = None,
    sharding: Annotated[str, typer.Option(help="ddp, or fsdp2 to split the model.")] = "ddp",
    dtype: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    compile_model: Annotated[bool, typer.Option("--compile", help="Compile the model.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 1000,
    keep_checkpoints: Annotated[int, typer.Option(min=1, help="Checkpoints kept.")] = 3,
    sample_every: Annotated[
        int, typer.Option(min=0, help="Steps between sample pictures; 0 for none.")
    ] = 1000,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log lines.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    on_bad_data: Annotated[
        str, typer.Option(help="refuse bad shards and rows, or skip them.")
    ] = "refuse",
    buffer: Annotated[
        int, typer.Option(min=1, help="Regions shuffled among each other, at least.")
    ] = 16_384,
    vae: Annotated[
        str | None, typer.Option(help="For samples and the model. (default: the store's)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")] = False,
) -> None:
    """Train one stage of PixCell; the same command goes on where it stopped.

    On SIGTERM or SIGUSR1 it saves and ends with exit code 0.

    \b
    pixcell-train run --stage 256 --latents latents --out stage-256
    pixcell-train run --stage 512 --latents latents --out stage-512 --init stage-256/model
    torchrun --nproc-per-node 4 --no-python pixcell-train run --stage 256 --latents latents --out s
    """
    from pixcell_share.training.options import RunOptions
    from pixcell_share.training.run import run_training

    asked = RunOptions(
        stage=stage,
        latents=tuple(latents),
        out=out,
        preset=preset,
        init=init,
        steps=steps,
        global_batch=global_batch,
        micro_batch=micro_batch,
        rate=rate,
        sharding=sharding,
        dtype=dtype,
        compile=compile_model,
        save_every=save_every,
        keep_checkpoints=keep_checkpoints,
        sample_every=sample_every,
        log_every=log_every,
        seed=seed,
        device=device,
        on_bad_data=on_bad_data,
        buffer=buffer,
        vae=vae,
    )
    report = run_training(asked.resolve(), lambda text: typer.echo(text, err=True))
    if report.speaks:
        console.print_json(report.as_json()) if as_json else typer.echo(report.sentence())


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for --model and --init.")],
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16. (default: fp32)")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Default guidance scale. (default: the paper's)")
    ] = None,
) -> None:
    """Write the model of a run's last checkpoint, with the averaged weights.

    Example: pixcell-train export --run stage-256 --out model --dtype fp16
    """
    from pixcell_share.pixcell.device import resolve_dtype
    from pixcell_share.training.export import export_run

    kind = resolve_dtype(dtype) if dtype else None
    export_run(run, out, dtype=kind, guidance_scale=guidance)
    typer.echo(f"{out}: model of {run}")


@app.command()
def flops(
    config: Annotated[
        Path | None, typer.Option(help="A transformer's config.json, in place of a preset.")
    ] = None,
    preset: Annotated[str, typer.Option(help="paper, came, nano or tiny.")] = "paper",
    stage: Annotated[int, typer.Option(help="256, 512 or 1024.")] = 256,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count the FLOPs of one image, and what a GPU would make of them.

    Example: pixcell-train flops --preset paper --stage 1024
    """
    from pixcell_share.training.costs import cost_of, find_config

    costs = cost_of(find_config(config, preset, stage), steps)
    if as_json:
        console.print_json(costs.to_json())
    else:
        console.output().print(costs.table())


@app.command()
def adapt(
    model: Annotated[str, typer.Option(help="Generator: a folder, a repository, or nano.")],
    latents: Annotated[list[str], typer.Option(help="Store, or STORE:REPEAT; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run, and of the LoRA.")],
    rank: Annotated[int, typer.Option(min=1, help="Inner dimension of the LoRA.")] = 4,
    alpha: Annotated[float, typer.Option(help="The LoRA is scaled by alpha / rank.")] = 4.0,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 1000,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    batch: Annotated[
        int, typer.Option(min=1, help="Images of a step, over all GPUs; without --dp-epsilon.")
    ] = 16,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once. (default: 16, 4 or 1 by size)")
    ] = None,
    turn: Annotated[bool, typer.Option("--turn", help="Turn and flip the regions.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log lines.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    on_bad_data: Annotated[
        str, typer.Option(help="refuse bad shards and rows, or skip them.")
    ] = "refuse",
    dp_epsilon: Annotated[
        float | None,
        typer.Option(
            help="Train with differential privacy for each patient, at most this epsilon over "
            "all steps. (default: without)",
            rich_help_panel=_PRIVATE,
        ),
    ] = None,
    dp_delta: Annotated[
        float, typer.Option(help="Below 1 / patients.", rich_help_panel=_PRIVATE)
    ] = 1e-5,
    clip: Annotated[
        float,
        typer.Option(
            "--dp-clip",
            "--clip",
            help="Largest norm of a patient's gradient.",
            rich_help_panel=_PRIVATE,
        ),
    ] = 0.01,
    patients_per_step: Annotated[
        int, typer.Option(help="Expected number, drawn at random.", rich_help_panel=_PRIVATE)
    ] = 16,
    tiles_per_patient: Annotated[
        int, typer.Option(help="In a step, at most.", rich_help_panel=_PRIVATE)
    ] = 4,
    no_guarantee: Annotated[
        bool,
        typer.Option(
            "--dp-no-guarantee",
            help="Has to be said with --dp-epsilon inf.",
            rich_help_panel=_PRIVATE,
        ),
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(
            help="The site's folder: its ledger is charged, its key signs. "
            "(default: $PIXCELL_HOME, else ~/.pixcell-share)",
            rich_help_panel=_PRIVATE,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")] = False,
) -> None:
    """Train a LoRA on the cross-attention of a generator; the same command goes on.

    With --dp-epsilon the patient is the unit: the store names them, the site's ledger is charged
    before the first step, and the LoRA comes with a signed record of what it promises.

    \b
    pixcell-train adapt --model PixCell-1024 --latents ihc --out lora
    pixcell-train adapt --model nano --latents latents --out lora --dp-epsilon 3 --dp-delta 1e-4
    """
    from pixcell_share.training.adapt import AdaptSettings
    from pixcell_share.training.private.options import PrivateOptions, adapt_or_privately

    settings = AdaptSettings(
        model=model,
        latents=tuple(latents),
        out=out,
        rank=rank,
        alpha=alpha,
        steps=steps,
        rate=rate,
        batch=batch,
        micro_batch=micro_batch,
        turn=turn,
        dtype=dtype,
        save_every=save_every,
        log_every=log_every,
        seed=seed,
        device=device,
        on_bad_data=on_bad_data,
    )
    private = PrivateOptions(
        epsilon=dp_epsilon,
        delta=dp_delta,
        clip=clip,
        patients_per_step=patients_per_step,
        tiles_per_patient=tiles_per_patient,
        no_guarantee=no_guarantee,
        home=home,
    )
    report = adapt_or_privately(settings, private, lambda text: typer.echo(text, err=True))
    if report.speaks:
        console.print_json(report.as_json()) if as_json else typer.echo(report.sentence())


def main() -> None:
    """Entry point of the console script."""
    console.run(app)


if __name__ == "__main__":
    main()
