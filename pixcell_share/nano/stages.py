"""A training run: its folder, and the stages in their order. Each goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixcell_share.errors import SettingsError
from pixcell_share.nano.ahead import DrawnAhead
from pixcell_share.nano.autoencoder import (
    VaeObjective,
    build_vae,
    encode_mean,
    latent_moments,
)
from pixcell_share.nano.batches import Sampler, TileSampler, to_tensor
from pixcell_share.nano.decoder import DecoderObjective
from pixcell_share.nano.encoder import (
    EncoderObjective,
    EncoderWithHeads,
    build_encoder,
    training_standard,
)
from pixcell_share.nano.groupnorm import use_fast_group_norm
from pixcell_share.nano.loop import Budget, LoopSettings, Trainer
from pixcell_share.nano.phantom import draw_phantom_tiles
from pixcell_share.nano.presets import NanoSettings, with_minutes
from pixcell_share.nano.tiles import TileSet, prepare

_MOMENT_TILES = 64
"""Training tiles that the latents' scale and shift are measured on."""


@dataclass
class TrainingRun:
    """Data, a work folder, settings and a device; the stages are its methods."""

    data: Path
    work: Path
    settings: NanoSettings
    device: torch.device
    show: bool = True

    @cached_property
    def tiles(self) -> TileSet:
        """The prepared tiles; the first use reads the data folder."""
        cache, phantom = self.work / "cache", self.settings.phantom
        drawn = draw_phantom_tiles(cache / "phantom.npy", phantom) if phantom else None
        return prepare(self.data, cache, self.settings.split, drawn)

    @property
    def _sampler(self) -> Sampler:
        sampler = TileSampler(self.tiles, self.settings.mix)
        return DrawnAhead(sampler) if self.device.type == "cuda" else sampler

    def train_vae(self, minutes: float | None = None) -> Trainer:
        """Stage 1."""
        settings = self.settings.vae
        vae = self._channels_last(build_vae(settings))
        optimizer = self._adamw(vae.parameters(), settings.rate, betas=(0.9, 0.99))
        trainer = self._trainer("vae", vae, [optimizer], settings.budget, minutes)
        trainer.run(VaeObjective(vae, self._sampler, settings), show=self.show)
        return trainer

    def train_encoder(self, minutes: float | None = None) -> Trainer:
        """Stage 2."""
        settings = self.settings.encoder
        model = self._seeded(lambda: EncoderWithHeads(settings)).to(self.device)
        optimizer = self._adamw(
            model.parameters(), settings.rate, betas=(0.9, 0.98), weight_decay=0.05
        )
        trainer = self._trainer("encoder", model, [optimizer], settings.budget, minutes)
        if trainer.done < 1:
            standard = training_standard(self.tiles, self.device)
            trainer.run(EncoderObjective(model, self._sampler, standard, settings), show=self.show)
        return trainer

    def train_decoder(self, minutes: float | None = None) -> Trainer:
        """Stage 3; needs stage 1, and may run beside the generator's training."""
        keep = self.settings
        vae = self._channels_last(build_vae(keep.vae))
        vae.load_state_dict(self.state("vae"))
        parameters = vae.decoder.parameters()
        optimizer = self._adamw(parameters, keep.decoder.rate, betas=(0.9, 0.99))
        trainer = self._trainer("decoder", vae, [optimizer], keep.decoder.budget, minutes)
        scale, _ = latent_moments(self._probe(vae))
        objective = DecoderObjective(vae, self._sampler, keep.vae, keep.decoder, scale=scale)
        trainer.run(objective, show=self.show)
        return trainer

    def vae(self, stage: str) -> Any:
        """The VAE of stage ``vae`` or ``decoder``, with its scale and shift in the config."""
        model = self._channels_last(build_vae(self.settings.vae)).eval()
        model.load_state_dict(self.state("vae"))
        scale, shift = latent_moments(self._probe(model))
        model.register_to_config(scaling_factor=scale, shift_factor=shift)
        model.load_state_dict(self.state(stage))
        return model

    def encoder(self) -> nn.Module:
        """The encoder of stage 2, without its heads."""
        model = build_encoder(self.settings.encoder, training=False).to(self.device).eval()
        prefix = "encoder."
        kept = {
            name.removeprefix(prefix): value
            for name, value in self.state("encoder").items()
            if name.startswith(prefix)
        }
        model.load_state_dict(kept)
        return model

    def state(self, stage: str) -> Mapping[str, Tensor]:
        """The averaged weights of a stage.

        Raises:
            SettingsError: the stage has not been run in this work folder.
        """
        average: Mapping[str, Tensor] = self._checkpoint(stage)["average"]
        return average

    def steps(self, stage: str) -> int:
        """Steps that a stage has made."""
        return int(self._checkpoint(stage)["step"])

    def minutes(self, stage: str) -> float:
        """Wall time that a stage has taken, in minutes."""
        return float(self._checkpoint(stage)["seconds"]) / 60

    def has(self, stage: str) -> bool:
        """Whether a stage has left a checkpoint."""
        return self._path(stage).exists()

    def _checkpoint(self, stage: str) -> dict[str, Any]:
        if not self.has(stage):
            raise SettingsError(
                f"the stage {stage} has no checkpoint in {self.work}",
                f"run `pixcell-train nano stage {stage}` with this work folder first",
            )
        state: dict[str, Any] = torch.load(
            self._path(stage), map_location=self.device, weights_only=True
        )
        return state

    def _path(self, stage: str) -> Path:
        return self.work / "run" / f"{stage}.pt"

    def _trainer(
        self,
        name: str,
        module: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        budget: Budget,
        minutes: float | None,
        loop: LoopSettings | None = None,
    ) -> Trainer:
        return Trainer(
            name,
            module,
            optimizers,
            with_minutes(budget, minutes),
            self._path(name),
            loop or LoopSettings(),
            seed=self.settings.seed,
        )

    def _adamw(self, parameters: Any, rate: float, **options: Any) -> torch.optim.Optimizer:
        fused = self.device.type == "cuda"  # one kernel for all weights
        return torch.optim.AdamW(parameters, rate, fused=fused, **options)

    def _seeded(self, build: Any) -> Any:
        torch.manual_seed(self.settings.seed)
        return build()

    def _channels_last(self, vae: Any) -> Any:
        vae = vae.to(self.device, memory_format=torch.channels_last)
        if self.device.type == "cpu":
            use_fast_group_norm(vae)
        return vae

    def _probe(self, vae: Any) -> Tensor:
        """Latents of some training tiles, one per group."""
        chosen = self.tiles.one_per_group(held=False)[:_MOMENT_TILES]
        images = to_tensor(self.tiles.lung[chosen], self.device)
        return torch.cat([encode_mean(vae, part) for part in torch.split(images, 8)])
