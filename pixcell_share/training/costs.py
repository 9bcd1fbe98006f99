"""What `pixcell-train flops` says: the cost of an image, and how fast a GPU would be with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.load import read_json
from pixcell_share.training.flops import (
    SD3_VAE,
    forward_flops,
    images_per_second,
    sampling_flops,
    training_flops,
    vae_decode_flops,
)
from pixcell_share.training.peaks import peak_flops
from pixcell_share.training.stages import preset

GPUS = ("A100", "H100", "H200")
MFU = 0.4
"""The share of the bf16 peak at which rates are shown."""
UNI2H = (1536, 16)
"""Length of an embedding of UNI2-h, and latent channels of the SD3 VAE."""


@dataclass(frozen=True)
class Costs:
    """FLOPs of one image."""

    forward: int
    """One pass of the transformer."""
    training_step: int
    """Forward and backward."""
    sampling: int
    """Denoising with guidance, without the VAE."""
    sampling_saving: int
    """The same with what does not change computed once."""
    vae_decode: int
    """Decoding, with the SD3 VAE."""
    steps: int
    """Of the solver."""

    def to_json(self) -> dict[str, Any]:
        """The costs, and images per second at `MFU` for each of `GPUS`."""
        rates = {name: _rates(flops) for name, flops in self._rows().items()}
        return {**asdict(self), "mfu": MFU, "dtype": "bf16", "images_per_s": rates}

    def table(self) -> Table:
        """The costs in GFLOP, and images per second."""
        table = Table("one image", "GFLOP")
        for gpu in GPUS:
            table.add_column(f"{gpu}, images/s", justify="right")
        table.columns[1].justify = "right"
        for name, flops in self._rows().items():
            rates = [f"{rate:,.4g}" for rate in _rates(flops).values()]
            table.add_row(name, f"{flops / 1e9:,.1f}", *rates)
        table.caption = f"rates at {MFU:.0%} MFU, bf16"
        return table

    def _rows(self) -> dict[str, int]:
        return {
            "forward pass": self.forward,
            "training step": self.training_step,
            "VAE decoding": self.vae_decode,
            f"sampling, {self.steps} steps, guided, with the VAE": self.sampling + self.vae_decode,
            "the same with exact savings": self.sampling_saving + self.vae_decode,
        }


def cost_of(config: Mapping[str, Any], steps: int) -> Costs:
    """The costs of a transformer's config.

    Raises:
        SettingsError: a key is missing, or the steps are not positive.
    """
    if steps < 1:
        raise SettingsError(f"steps is {steps}", "use at least 1; 20 is usual")
    return Costs(
        forward=forward_flops(config),
        training_step=training_flops(config),
        sampling=sampling_flops(config, steps),
        sampling_saving=sampling_flops(config, steps, saving=True),
        vae_decode=vae_decode_flops(config["sample_size"], {**SD3_VAE, **_latents(config)}),
        steps=steps,
    )


def find_config(path: Path | None, name: str, stage: int) -> Mapping[str, Any]:
    """A transformer's config: of a file or its folder, else of a preset's stage.

    Raises:
        WeightsError: there is no such file, or it cannot be read.
        SettingsError: no such preset or stage.
    """
    if path is None:
        return preset(name, stage).config(*UNI2H)
    return read_json(path / "config.json" if path.is_dir() else path)


def _latents(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"latent_channels": config["in_channels"]}


def _rates(flops: int) -> dict[str, float]:
    return {gpu: images_per_second(flops, peak_flops(gpu, "bf16"), MFU) for gpu in GPUS}
