"""The job behind ``pixcell-train run``: from settings to a trained and exported model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pixcell_share.errors import SettingsError, WeightsError
from pixcell_share.pixcell.folders import find_vae
from pixcell_share.pixcell.load import load_vae
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.attention import PlainAttention, SingleTokenAttention
from pixcell_share.training.batches import BatchMaker, SampleSettings
from pixcell_share.training.distributed import Ranks, joined
from pixcell_share.training.division import divide
from pixcell_share.training.export import write_model
from pixcell_share.training.flops import training_flops
from pixcell_share.training.latents import ShuffledOrder, Source
from pixcell_share.training.loop import Outcome, Trainer
from pixcell_share.training.objective import DiffusionObjective
from pixcell_share.training.pace import Pace
from pixcell_share.training.peaks import device_name, peak_flops
from pixcell_share.training.record import record_of
from pixcell_share.training.samples import SampleGrid, take_conditions
from pixcell_share.training.settings import (
    RunSettings,
    check_same,
    fixed_settings,
    read_run,
    write_run,
)
from pixcell_share.training.stages import StageSettings
from pixcell_share.training.start import build_model, initialise_from

_PLAIN_PATCHES = 256
"""Up to this many patches plain attention is the faster on a CPU, and its scores fit."""


@dataclass(frozen=True)
class RunReport:
    """How ``pixcell-train run`` ended."""

    step: int
    """Steps done, over all resumed runs."""
    steps: int
    """Steps asked for."""
    stopped: bool
    """Whether a signal ended it early; the same command goes on."""
    loss: float | None
    """Of the last step of this process; None where it made none."""
    model: Path | None
    """The exported model, at the end."""
    speaks: bool
    """Whether this is the process that tells the person."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "step": self.step,
            "steps": self.steps,
            "stopped": self.stopped,
            "loss": self.loss,
            "model": str(self.model) if self.model else None,
        }

    def sentence(self) -> str:
        """For people."""
        if self.stopped:
            return f"stopped and saved after step {self.step:,}: the same command goes on"
        return f"{self.model}: model after {self.step:,} steps"


def run_training(settings: RunSettings, say: Callable[[str], None]) -> RunReport:
    """Train a stage, or go on with it where it stopped; at its end export the model.

    Args:
        settings: of the run.
        say: is told what a person should know; called on rank 0 alone.

    Raises:
        SettingsError: settings do not fit each other, the data, or the run in the folder.
        DataError: the data has a fault, and bad data is refused.
        WeightsError: the stage before cannot be read.
        LossError: a loss was NaN or infinite.
        StorageError: the disk is full, or the folder cannot be written.
    """
    _check(settings)
    with joined(settings.device, sharding=settings.loop.sharding) as ranks:
        return _Job(settings, ranks, say if ranks.first else silent).run()


def silent(text: str) -> None:
    """Say nothing: what the ranks after the first do."""


def batch_maker(
    settings: RunSettings, sources: Sequence[Source], say: Callable[[str], None]
) -> BatchMaker:
    """What makes the batches of a run from its stores.

    Raises:
        SettingsError: the stores do not fit the stage or each other.
    """
    data, stage = settings.data, settings.stage
    drawn = SampleSettings(
        stage=stage.stage,
        global_batch=stage.global_batch,
        seed=data.seed,
        condition_dropout=stage.condition_dropout,
        condition_noise=stage.condition_noise,
        turn=stage.turn,
        spread_timesteps=stage.spread_timesteps,
        skip_bad=data.on_bad == "skip",
    )
    order = ShuffledOrder(sources, seed=data.seed, buffer=data.buffer)
    return BatchMaker(order, sources, drawn, say)


def _check(settings: RunSettings) -> None:
    if settings.loop.sharding == "fsdp2" and settings.stage.optimizer == "came":
        raise SettingsError(
            "CAME cannot be split: it keeps sums over rows and columns of whole matrices",
            "use --sharding ddp, or the preset paper",
        )


class _Job:
    """One process of a run."""

    def __init__(self, settings: RunSettings, ranks: Ranks, say: Callable[[str], None]) -> None:
        self._settings, self._ranks, self._say = settings, ranks, say
        self._stage = settings.stage
        self._sources = settings.data.open(say)
        self._info = self._sources[0].store.info
        self._fixed = fixed_settings(settings, self._sources)

    def run(self) -> RunReport:
        settings = self._settings
        maker = batch_maker(settings, self._sources, self._say)
        division = divide(
            self._stage.global_batch,
            self._ranks.world,
            self._stage.micro_batch,
            exact=settings.exact_micro_batch,
        )
        check_same(settings.out, self._fixed)
        self._ranks.wait()
        model = self._model()
        config = self._stage.config(self._info.embedding_dim, self._info.latent_channels)
        if self._ranks.first:
            write_run(settings.out, self._fixed, self._about(config))
        trainer = Trainer(
            model.to(self._ranks.device).train(),
            DiffusionObjective(self._stage.objective, self._ranks.device),
            self._stage,
            maker,
            division,
            self._ranks,
            settings.out,
            settings.loop,
            pace=self._pace(config),
            sample=self._sampler(config, maker.tokens),
        )
        return self._report(trainer, trainer.run())

    def _model(self) -> PixCellTransformer2DModel:
        """The model at its start; the loop goes on from a checkpoint."""
        info, data = self._info, self._settings.data
        model = build_model(self._stage, info.embedding_dim, info.latent_channels, seed=data.seed)
        if self._settings.init is not None and not _has_checkpoint(self._settings.out):
            initialise_from(model, self._settings.init)
        prepare_attention(model, self._stage, self._ranks.device)
        return model

    def _about(self, config: Mapping[str, Any]) -> dict[str, Any]:
        settings, info = self._settings, self._info
        before = (read_run(settings.out) or {}).get("about", {})
        return {
            "steps": self._stage.steps,
            "micro_batch": self._stage.micro_batch,
            "ranks": self._ranks.world,
            "device": device_name(self._ranks.device),
            "sharding": settings.loop.sharding,
            "config": config,
            "vae": settings.vae or info.vae_source,
            "vae_identity": info.vae,
            "encoder": info.encoder,
            "mpp": info.mpp,
            "trained_on": record_of(self._sources, settings.init, before.get("trained_on")),
        }

    def _pace(self, config: Mapping[str, Any]) -> Pace:
        kind = torch.bfloat16 if self._settings.loop.bf16 else torch.float32
        peak = peak_flops(device_name(self._ranks.device), kind)
        flops = training_flops(config, shortcut=self._stage.tokens == 1)
        return Pace(self._stage.global_batch, self._ranks, flops, peak)

    def _sampler(
        self, config: Mapping[str, Any], tokens: int
    ) -> Callable[[int, Mapping[str, Tensor]], None] | None:
        """What draws samples on rank 0; None where there is no VAE for it."""
        settings = self._settings
        if not settings.loop.sample_every or not self._ranks.first:
            return None
        name = settings.vae or self._info.vae_source
        try:
            # diffusers' own `to` warns about float32 modules, of which this class has none.
            vae = nn.Module.to(load_vae(find_vae(name)[1]), self._ranks.device, torch.float32)
        except WeightsError as error:
            self._say(f"no sample pictures: {error}")
            return None
        latents, embeddings, split = take_conditions(self._sources, tokens, settings.samples)
        if split == "train":
            self._say("nothing is held out: the samples' conditions are training regions")
        prediction = self._stage.objective.prediction
        return SampleGrid(settings.out, config, prediction, vae, latents, embeddings)

    def _report(self, trainer: Trainer, outcome: Outcome) -> RunReport:
        model = None
        if not outcome.stopped:
            weights = trainer.whole_average()
            if self._ranks.first:
                model = self._export(weights, outcome.step)
        return RunReport(
            outcome.step,
            self._stage.steps,
            outcome.stopped,
            outcome.loss,
            model,
            self._ranks.first,
        )

    def _export(self, weights: Mapping[str, Tensor], step: int) -> Path:
        run = read_run(self._settings.out)
        assert run is not None
        return write_model(self._settings.out / "model", weights, run, step, say=self._say)


def prepare_attention(
    model: PixCellTransformer2DModel, stage: StageSettings, device: torch.device
) -> None:
    """Leave out what has no effect, and use what is faster on this device; results stay equal.

    With one condition token the softmax is over one score: query and key projections have no
    effect and get no gradient, so they are held at their start.
    """
    for block in cast(Any, model).transformer_blocks:
        if stage.tokens == 1:
            block.attn2.set_processor(SingleTokenAttention())
            _hold(block.attn2.to_q, block.attn2.to_k)
        if device.type == "cpu" and (stage.sample_size // 2) ** 2 <= _PLAIN_PATCHES:
            block.attn1.set_processor(PlainAttention())


def _hold(*layers: nn.Module) -> None:
    for layer in layers:
        layer.requires_grad_(False)


def _has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoints" / "latest").is_file()
