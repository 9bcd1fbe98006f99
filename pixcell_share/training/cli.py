"""`pixcell-train`: what a model builder types. It parses, calls and prints."""

from __future__ import annotations

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


def main() -> None:
    """Entry point of the console script."""
    console.run(app)


if __name__ == "__main__":
    main()
