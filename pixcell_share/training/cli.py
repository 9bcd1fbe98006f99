"""`pixcell-train`: what a model builder types. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixcell_share import console
from pixcell_share.nano.cli import nano

app = console.application(
    "Train generators and encoders.",
    """
    Example: pixcell-train nano stage vae --data ../shared/data
             pixcell-train nano evaluate --data ../shared/data --weights weights --out figures
    """,
)
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


def main() -> None:
    """Entry point of the console script."""
    console.run(app)


if __name__ == "__main__":
    main()
