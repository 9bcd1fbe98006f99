"""`pixcell-train`: what a model builder types. It parses, calls and prints."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixcell_share import console

if TYPE_CHECKING:
    from pixcell_share.nano.stages import TrainingRun

app = console.application(
    "Train generators and encoders.",
    """
    Example: pixcell-train nano all --data ../shared/data --preset gpu --device cuda --out weights
             pixcell-train nano evaluate --data ../shared/data --weights weights --out figures
    """,
)
nano = console.application(
    "Train and measure nano, the small model that ships in the package.",
    """
    Example: pixcell-train nano stage vae --data ../shared/data
             pixcell-train nano all --data ../shared/data --preset gpu --device cuda --out weights
    """,
)
app.add_typer(nano, name="nano")


class Preset(StrEnum):
    """Named settings."""

    cpu = "cpu"
    gpu = "gpu"
    tiny = "tiny"


class Stage(StrEnum):
    """The stages of nano, in their order; the decoder may run beside the transformer."""

    vae = "vae"
    encoder = "encoder"
    transformer = "transformer"
    decoder = "decoder"


Data = Annotated[Path, typer.Option(help="Folder with lung_tiles/ and breast_fields/.")]
Work = Annotated[Path, typer.Option(help="Folder for cached tiles, latents and checkpoints.")]
PresetOption = Annotated[Preset, typer.Option(help="Sizes, steps and minutes.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Guidance = Annotated[float, typer.Option(help="Default guidance scale of the exported model.")]


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
    """Train one stage, or go on with it where it stopped.

    \b
    pixcell-train nano stage vae --data ../shared/data
    pixcell-train nano stage decoder --data ../shared/data --minutes 60
    """
    run = _run(data, work, preset, device)
    trainers = {
        Stage.vae: run.train_vae,
        Stage.encoder: run.train_encoder,
        Stage.transformer: run.train_transformer,
        Stage.decoder: run.train_decoder,
    }
    trainer = trainers[stage](minutes)
    typer.echo(f"{stage}: {trainer.step_count} steps in {trainer.seconds / 60:.1f} min")


@nano.command("all")
def train_all(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    work: Work = Path("nano-run"),
    preset: PresetOption = Preset.cpu,
    device: Device = "cpu",
    guidance: Guidance = 1.25,
) -> None:
    """Train every stage and write the weights; run again, it goes on where it stopped.

    \b
    pixcell-train nano all --data ../shared/data --out weights
    pixcell-train nano all --data ../shared/data --preset gpu --device cuda --out weights
    """
    from pixcell_share.nano import reporting

    size = reporting.train_all(_run(data, work, preset, device), out, guidance)
    typer.echo(f"{out}: {size / 1e6:.1f} MB of weights")


@nano.command("export")
def export_weights(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    work: Work = Path("nano-run"),
    preset: PresetOption = Preset.cpu,
    guidance: Guidance = 1.25,
) -> None:
    """Write the weights of the stages as they are, in fp16.

    Example: pixcell-train nano export --data ../shared/data --out weights
    """
    from pixcell_share.nano import reporting

    size = reporting.export_run(_run(data, work, preset, "cpu"), out, guidance)
    typer.echo(f"{out}: {size / 1e6:.1f} MB of weights")


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


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
