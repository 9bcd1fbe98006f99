"""The job behind ``pixcell-train adapt``: a LoRA on the cross-attention of a trained generator.

As PixCell's virtual staining trains them: rank 4, alpha 4, AdamW at 1e-4, the squared error of the
prediction alone (the learned variance stays as it is), condition dropout 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pixcell_share.pixcell.lora import ALPHA, RANK, add_lora, save_lora
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.base import Base
from pixcell_share.training.batches import BatchMaker
from pixcell_share.training.distributed import Ranks, joined
from pixcell_share.training.division import divide
from pixcell_share.training.flops import training_flops
from pixcell_share.training.loop import Trainer
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings
from pixcell_share.training.options import RunOptions
from pixcell_share.training.pace import Pace
from pixcell_share.training.peaks import device_name, peak_flops
from pixcell_share.training.record import record_of, write_record
from pixcell_share.training.run import batch_maker, prepare_attention, silent
from pixcell_share.training.settings import (
    RunSettings,
    check_same,
    fixed_settings,
    read_run,
    write_run,
)
from pixcell_share.training.stages import LATENT_PX, StageSettings

FILE = "pytorch_lora_weights.safetensors"
"""Diffusers' name for it."""


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """All of ``pixcell-train adapt``."""

    model: str
    """The generator: a folder, a repository, or ``nano``."""
    latents: tuple[str, ...]
    """Stores, each with ``:REPEAT`` or without."""
    out: Path
    """Folder of the run; the LoRA is written there."""
    rank: int = RANK
    """Inner dimension of the LoRA's matrices."""
    alpha: float = ALPHA
    """The LoRA's output is scaled by ``alpha / rank``."""
    steps: int = 1000
    """Optimizer steps."""
    rate: float = 1e-4
    """Learning rate of AdamW, constant."""
    batch: int = 16
    """Images of a step, over all GPUs."""
    micro_batch: int | None = None
    """Images that a GPU computes at once. None: 16 at 256 px, 4 at 512 px, 1 at 1024 px."""
    weight_decay: float = 0.01
    """Of the LoRA's matrices; torch's default."""
    condition_dropout: float = 0.1
    """Share of images trained with the null embedding."""
    turn: bool = False
    """Turn and flip the latents, and the grid of embeddings with them."""
    seed: int = 0
    """Of the LoRA's start, the order, and everything drawn."""
    dtype: str = "auto"
    """``auto``, ``bf16`` or ``fp32``; weights and sums are float32 in any case."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between log lines."""
    on_bad_data: str = "refuse"
    """``refuse`` data with a fault, or ``skip`` it."""


@dataclass(frozen=True)
class AdaptReport:
    """How it ended."""

    step: int
    """Steps done, over all resumed runs."""
    steps: int
    """Steps asked for."""
    loss: float | None
    """Of the last step of this process; None where it made none."""
    stopped: bool
    """Whether a signal ended it early; the same command goes on."""
    file: Path | None
    """The LoRA, at the end."""
    speaks: bool
    """Whether this is the process that tells the person."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        kept = {key: value for key, value in asdict(self).items() if key != "speaks"}
        return {**kept, "file": None if self.file is None else str(self.file)}

    def sentence(self) -> str:
        """For people."""
        if self.stopped:
            return f"stopped after step {self.step:,} of {self.steps:,}: the same command goes on"
        return f"{self.file}: LoRA after {self.step:,} steps"


def adapt(settings: AdaptSettings, say: Callable[[str], None]) -> AdaptReport:
    """Train a LoRA, or go on with it where it stopped; at its end write the file.

    Raises:
        SettingsError: settings do not fit each other, the data, or the run in the folder.
        WeightsError: the generator cannot be read, or it is not the store's.
        DataError: the data has a fault, and bad data is refused.
        LossError: a loss was NaN or infinite.
        StorageError: the disk is full, or the folder cannot be written.
    """
    base = Base.load(settings.model)
    run = run_settings(settings, stage_of(base, settings))
    with joined(run.device) as ranks:
        return _train(base, settings, run, ranks, say if ranks.first else silent)


def stage_of(base: Base, settings: AdaptSettings) -> StageSettings:
    """The settings of the training, with sizes and prediction of the generator itself.

    Raises:
        SettingsError: a value is out of range.
    """
    fitting = max(1, 16 // base.transformer.config.caption_num_tokens)
    return lora_stage(
        base,
        batch=settings.batch,
        micro_batch=settings.micro_batch or min(fitting, settings.batch),
        steps=settings.steps,
        rate=settings.rate,
        weight_decay=settings.weight_decay,
        condition_dropout=settings.condition_dropout,
        turn=settings.turn,
    )


def lora_stage(base: Base, *, batch: int, **given: Any) -> StageSettings:
    """A stage with sizes and prediction of the generator itself, and no average of weights.

    Args:
        base: the generator.
        batch: images of a step.
        given: other entries of the stage.

    Raises:
        SettingsError: a value is out of range.
    """
    config = base.transformer.config
    return StageSettings(
        stage=config.sample_size * LATENT_PX,
        interpolation=base.transformer.interpolation_scale,
        global_batch=batch,
        heads=config.num_attention_heads,
        head_dim=config.attention_head_dim,
        layers=config.num_layers,
        objective=ObjectiveSettings(base.prediction, learned_variance=False),
        ema=0.0,
        **given,
    )


def run_settings(settings: AdaptSettings, stage: StageSettings) -> RunSettings:
    """What ``adapt`` has in common with ``run``.

    Raises:
        SettingsError: a word is not one of the known ones.
    """
    words = RunOptions(
        stage=256,  # of the preset that `stage` takes the place of
        latents=settings.latents,
        out=settings.out,
        dtype=settings.dtype,
        device=settings.device,
        seed=settings.seed,
        save_every=settings.save_every,
        log_every=settings.log_every,
        sample_every=0,
        on_bad_data=settings.on_bad_data,
    )
    exact = settings.micro_batch is not None
    return replace(words.resolve(), stage=stage, exact_micro_batch=exact)


def _train(
    base: Base,
    settings: AdaptSettings,
    run: RunSettings,
    ranks: Ranks,
    say: Callable[[str], None],
) -> AdaptReport:
    sources = run.data.open(say)
    base.check(sources[0].store.info)
    maker = batch_maker(run, sources, say)
    lora = {"rank": settings.rank, "alpha": settings.alpha, "base_sha256": base.sha256}
    fixed = {**fixed_settings(run, sources), "lora": lora}
    check_same(run.out, fixed)
    ranks.wait()
    if ranks.first:
        before = (read_run(run.out) or {}).get("about", {})
        noted = record_of(sources, Path(settings.model), before.get("trained_on"))
        about = {"model": settings.model, "steps": settings.steps, "trained_on": noted}
        write_run(run.out, fixed, about)
    trainer = _trainer(base.transformer, settings, run, maker, ranks)
    outcome = trainer.run()
    file = None
    if ranks.first and not outcome.stopped:
        file = save_lora(base.transformer, run.out / FILE, base_sha256=base.sha256)
        write_record(run.out, noted)
    return AdaptReport(
        outcome.step, settings.steps, outcome.loss, outcome.stopped, file, ranks.first
    )


def _trainer(
    model: PixCellTransformer2DModel,
    settings: AdaptSettings,
    run: RunSettings,
    maker: BatchMaker,
    ranks: Ranks,
) -> Trainer:
    stage = run.stage
    add_lora(model, settings.rank, settings.alpha, seed=settings.seed)
    prepare_attention(model, stage, ranks.device)
    kind = torch.bfloat16 if run.loop.bf16 else torch.float32
    flops = training_flops(model.config, shortcut=True, lora_rank=settings.rank)
    peak = peak_flops(device_name(ranks.device), kind)
    return Trainer(
        model.to(ranks.device).train(),
        DiffusionObjective(stage.objective, ranks.device),
        stage,
        maker,
        divide(stage.global_batch, ranks.world, stage.micro_batch, exact=run.exact_micro_batch),
        ranks,
        run.out,
        run.loop,
        pace=Pace(stage.global_batch, ranks, flops, peak),
        kept=is_lora,
    )


def is_lora(name: str) -> bool:
    """Whether an entry of the state dict belongs to the LoRA: what a checkpoint holds."""
    return ".lora_" in name
