"""`pixcell-train nano`: the small model in the package. It parses, calls and prints."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixcell_share import console

if TYPE_CHECKING:
    from pixcell_share.nano.stages import TrainingRun

nano = console.application(
    "Train and measure nano, the small model that ships in the package.",
    """
    Example: pixcell-train nano stage vae --data ../shared/data
             pixcell-train nano regions --data ../shared/data --out regions
    """,
)


class Preset(StrEnum):
    """Named settings."""

    cpu = "cpu"
    gpu = "gpu"
    tiny = "tiny"


class Stage(StrEnum):
    """The parts that are no PixCell transformer; the decoder may run beside one."""

    vae = "vae"
    encoder = "encoder"
    decoder = "decoder"


Data = Annotated[Path, typer.Option(help="Folder with lung_tiles/, breast_fields/ and slides/.")]
Work = Annotated[Path, typer.Option(help="Folder for cached tiles and checkpoints.")]
PresetOption = Annotated[Preset, typer.Option(help="Sizes, steps and minutes.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]


@nano.command("stage")
def train_stage(
    stage: Annotated[Stage, typer.Argument(help="What to train.")],
    data: Data,
    work: Work = Path("nano-run"),
    preset: PresetOption = Preset.cpu,
    device: Device = "cpu",
    minutes: Annotated[
        float | None, typer.Option(help="Wall time of the stage in all. (default: the preset's)")
    ] = None,
) -> None:
    """Train the VAE, the encoder or the decoder, or go on where it stopped.

    \b
    pixcell-train nano stage vae --data ../shared/data
    pixcell-train nano stage decoder --data ../shared/data --minutes 60
    """
    run = _run(data, work, preset, device)
    trainers = {
        Stage.vae: run.train_vae,
        Stage.encoder: run.train_encoder,
        Stage.decoder: run.train_decoder,
    }
    trainer = trainers[stage](minutes)
    typer.echo(f"{stage}: {trainer.step_count} steps in {trainer.seconds / 60:.1f} min")


@nano.command()
def regions(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the tables and pictures.")],
    work: Work = Path("nano-run"),
) -> None:
    """Lay out the data for `pixcell-train latents`, with nano's split.

    Example: pixcell-train nano regions --data ../shared/data --out nano-run/regions
    """
    from pixcell_share.nano.regions import write_regions

    write_regions(_run(data, work, Preset.cpu, "cpu").tiles, out)
    typer.echo(f"{out}: lung.csv, breast.csv, breast/")


@nano.command()
def parts(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for vae/ and encoder/.")],
    work: Work = Path("nano-run"),
    preset: PresetOption = Preset.cpu,
) -> None:
    """Write the VAE and the encoder as they are, in fp16: what `pixcell-train latents` needs.

    Example: pixcell-train nano parts --data ../shared/data --out nano-run/parts
    """
    from pixcell_share.nano import reporting

    reporting.export_parts_of(_run(data, work, preset, "cpu"), out)
    typer.echo(f"{out}: vae/, encoder/")


@nano.command("export")
def export_weights(
    data: Data,
    generator: Annotated[Path, typer.Option(help="The model/ folder of `pixcell-train run`.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    work: Work = Path("nano-run"),
    preset: PresetOption = Preset.cpu,
    guidance: Annotated[
        float, typer.Option(help="Default guidance scale of the exported model.")
    ] = 1.25,
) -> None:
    """Write VAE, encoder and transformer in fp16: the folder that ships.

    Example: pixcell-train nano export --data ../shared/data --generator run256/model --out weights
    """
    from pixcell_share.nano import reporting

    size = reporting.export_run(_run(data, work, preset, "cpu"), generator, out, guidance)
    typer.echo(f"{out}: {size / 1e6:.1f} MB of weights")


@nano.command("export-large")
def export_large(
    generator: Annotated[Path, typer.Option(help="The model/ folder of a run of stage 1024.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    guidance: Annotated[
        float, typer.Option(help="Default guidance scale of the exported model.")
    ] = 1.25,
) -> None:
    """Write the transformer of nano-1024 in fp16; its VAE and encoder are nano's.

    Example: pixcell-train nano export-large --generator stage-1024/model --out weights-1024
    """
    from pixcell_share.nano.export import export_generator, size_of

    export_generator(out, generator, guidance)
    typer.echo(f"{out}: {size_of(out) / 1e6:.1f} MB of weights")


@nano.command()
def evaluate(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for figures.json and the pictures.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of weights. (default: the package's)")
    ] = None,
    work: Work = Path("nano-run"),
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    count: Annotated[int, typer.Option(min=32, help="Held-out tiles to compare.")] = 128,
    guidance: Annotated[
        list[float] | None,
        typer.Option(help="Guidance scale; may be given more than once. (default: 1.25 and 2)"),
    ] = None,
) -> None:
    """Compare weights with held-out tiles: the figures and the picture of the card.

    Example: pixcell-train nano evaluate --data ../shared/data --out figures
    """
    from pixcell_share.nano import WEIGHTS, reporting
    from pixcell_share.nano.evaluate import EvaluationSettings
    from pixcell_share.pixcell.device import resolve_dtype

    run = _run(data, work, Preset.cpu, device)
    settings = EvaluationSettings(count=count)
    if guidance:
        settings = replace(settings, guidances=tuple(guidance))
    typer.echo(
        reporting.evaluate_weights(run, weights or WEIGHTS, out, settings, resolve_dtype(dtype))
    )


def _run(data: Path, work: Path, preset: Preset, device: str) -> TrainingRun:
    import torch

    from pixcell_share.nano.device import keep_freed_memory
    from pixcell_share.nano.presets import PRESETS
    from pixcell_share.nano.stages import TrainingRun
    from pixcell_share.pixcell.device import resolve_device

    keep_freed_memory()
    target: torch.device = resolve_device(device)
    return TrainingRun(data, work, PRESETS[preset](), target)
