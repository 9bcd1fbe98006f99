"""Fine-tune a generator on patients' tiles so that the weights tell little of any one patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from pixcell_share.errors import SettingsError, WorkFolderError
from pixcell_share.pixcell.lora import add_lora, fill_lora
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.adapt import lora_stage
from pixcell_share.training.base import Base
from pixcell_share.training.batches import BatchMaker, SampleSettings
from pixcell_share.training.distributed import Ranks, joined
from pixcell_share.training.latents import Source
from pixcell_share.training.objective import DiffusionObjective
from pixcell_share.training.private.accountant import Accountant
from pixcell_share.training.private.gradients import PatientGradients
from pixcell_share.training.private.grant import Grant
from pixcell_share.training.private.record import PrivateRecord, make_record
from pixcell_share.training.private.sampling import PatientOrder
from pixcell_share.training.private.settings import LoopSettings, PrivacySettings, TrainingSettings
from pixcell_share.training.private.start import adapter_of
from pixcell_share.training.private.steps import StepMaker
from pixcell_share.training.private.stream import SecretStream
from pixcell_share.training.private.trainer import PrivateTrainer
from pixcell_share.training.private.update import Adapter, adapter_digest
from pixcell_share.training.run import prepare_attention
from pixcell_share.training.settings import check_same, read_run, write_run
from pixcell_share.training.stages import StageSettings


@dataclass(frozen=True)
class Work:
    """The steps of one round; by default a training is one round."""

    folder: Path
    """For checkpoints and the log, which are private."""
    steps: range
    """Of all steps of the training."""
    start: Adapter | None = None
    """The LoRA to go on from; None: drawn from the seed."""


@dataclass(frozen=True)
class PrivateResult:
    """What came out."""

    adapter: Adapter
    """The LoRA's matrices by name. Covered by the record."""
    record: PrivateRecord
    """What it promises."""
    loss: float | None
    """Of the last step. Not covered: for the site's eyes."""
    stopped: bool
    """Whether it was asked to stop before its last step; the same call goes on."""
    step: int
    """Steps done, over all rounds."""


def train_private_lora(
    base: Base,
    sources: Sequence[Source],
    training: TrainingSettings,
    privacy: PrivacySettings,
    grant: Grant,
    work: Work,
    *,
    secret: bytes,
    loop: LoopSettings | None = None,
    say: Callable[[str], None] = print,
    wants_stop: Callable[[], bool] = lambda: False,
) -> PrivateResult:
    """Train a LoRA by DP-SGD with the patient as the unit, or go on where it stopped.

    Args:
        base: the generator; its transformer gets the LoRA.
        sources: the stores; each names the patient of every region.
        training: what is learned.
        privacy: what is promised.
        grant: from `charge`: nothing is computed before the ledger was charged.
        work: which steps, and where.
        secret: of the site, 32 bytes or more. The same call with the same secret gives the same
            bytes on the same machine.
        loop: how it is carried out.
        say: is told what a person should know.
        wants_stop: asked after each step.

    Raises:
        SettingsError: settings do not fit each other, the data, or the run in the folder.
        WeightsMismatchError: the stores are another generator's.
        DataError: a tile is not finite, and bad data is refused.
        LossError: a loss or a patient's gradient was NaN or infinite; nothing of it was applied.
        AuditError: opacus' accountants contradict each other.
        StorageError: the disk is full, or the folder cannot be written.
    """
    job = _Job(base, sources, training, privacy, grant, work, loop or LoopSettings())
    with joined(job.loop.device) as ranks:
        return job.run(ranks, secret, say, wants_stop)


def check_fit(
    base: Base, sources: Sequence[Source], privacy: PrivacySettings, loop: LoopSettings
) -> None:
    """Refuse what could not be trained, before the ledger is charged for it.

    Raises:
        SettingsError: the tiles of a patient do not fit into a micro-batch.
        WeightsMismatchError: the stores are another generator's.
    """
    for source in sources:
        base.check(source.store.info)
    if loop.micro_batch is not None and loop.micro_batch < privacy.tiles_per_patient:
        raise SettingsError(
            f"{privacy.tiles_per_patient} tiles per patient do not fit into a micro-batch of "
            f"{loop.micro_batch}, and the tiles of a patient are computed at once",
            f"use --tiles-per-patient {loop.micro_batch}, or a larger --micro-batch",
        )


def check_folder(folder: Path, release: str) -> None:
    """Refuse the folder of another training, before the ledger is charged for this one.

    Raises:
        WorkFolderError: it was begun with other settings or other tiles.
        DataError: its ``run.json`` is damaged.
    """
    before = read_run(folder)
    if before is not None and before["fixed"].get("release") != release:
        raise WorkFolderError(
            f"{folder} was begun with other settings or other tiles",
            "use the same settings to go on with it, or another --out to begin anew",
        )


@dataclass(frozen=True)
class _Job:
    base: Base
    sources: Sequence[Source]
    training: TrainingSettings
    privacy: PrivacySettings
    grant: Grant
    work: Work
    loop: LoopSettings

    def run(
        self,
        ranks: Ranks,
        secret: bytes,
        say: Callable[[str], None],
        wants_stop: Callable[[], bool],
    ) -> PrivateResult:
        self._check(ranks)
        stage = self._stage()
        model = self._model(stage, ranks.device)
        steps = self.work.steps
        start = adapter_digest(adapter_of(model))
        stream = SecretStream(secret, [self.grant.release, steps.start, steps.stop, start])
        self._begin(start, stream)
        trainer = self._trainer(model, stage, stream, say, wants_stop)
        outcome = trainer.run(steps)
        record = make_record(
            self.privacy,
            noise_multiplier=self.grant.noise_multiplier,
            rate=self.grant.rate,
            steps=outcome.step,
            release=self.grant.release,
            base_sha256=self.base.sha256,
        )
        return PrivateResult(adapter_of(model), record, outcome.loss, outcome.stopped, outcome.step)

    def _check(self, ranks: Ranks) -> None:
        check_fit(self.base, self.sources, self.privacy, self.loop)
        if ranks.world > 1:
            raise SettingsError(
                "a private training runs in one process",
                "start it without torchrun: a step is small, since a LoRA's gradients are",
            )

    def _stage(self) -> StageSettings:
        """Sizes and optimizer, as the trainer's other parts know them."""
        fitting = max(1, 16 // self.base.transformer.config.caption_num_tokens)
        cap = self.privacy.tiles_per_patient
        return lora_stage(
            self.base,
            batch=self.privacy.patients_per_step * cap,
            micro_batch=self.loop.micro_batch or max(fitting, cap),
            steps=self.privacy.steps,
            rate=self.training.rate,
            weight_decay=self.training.weight_decay,
            condition_dropout=self.training.condition_dropout,
            turn=self.training.turn,
            clip=self.privacy.clip,
        )

    def _model(self, stage: StageSettings, device: torch.device) -> PixCellTransformer2DModel:
        model, training = self.base.transformer, self.training
        add_lora(model, training.rank, training.alpha, seed=training.seed)
        if self.work.start is not None:
            given = self.work.start.items()
            fill_lora(model, {name: torch.from_numpy(value) for name, value in given})
        prepare_attention(model, stage, device)
        return cast(PixCellTransformer2DModel, model.to(device).train())

    def _begin(self, start: str, stream: SecretStream) -> None:
        """Note what the run in this folder is, or refuse another one's folder."""
        fixed = {
            "release": self.grant.release,
            "steps": [self.work.steps.start, self.work.steps.stop],
            "start": start,
            "training": self.training.to_json(),
            "privacy": self.privacy.to_json(),
            "noise_multiplier": self.grant.noise_multiplier,
            "rate": self.grant.rate,
            # Says that it is the same secret, and nothing of what it is.
            "secret": stream.seed("fingerprint"),
        }
        check_same(self.work.folder, fixed)
        write_run(self.work.folder, fixed, {})

    def _trainer(
        self,
        model: PixCellTransformer2DModel,
        stage: StageSettings,
        stream: SecretStream,
        say: Callable[[str], None],
        wants_stop: Callable[[], bool],
    ) -> PrivateTrainer:
        privacy, grant = self.privacy, self.grant
        order = PatientOrder(grant.patients, grant.rate, privacy.tiles_per_patient, stream)
        maker = BatchMaker(order, self.sources, self._drawn(stage, stream), say)
        device = next(model.parameters()).device
        objective = DiffusionObjective(stage.objective, device)
        clip = privacy.clip if privacy.private else None
        return PrivateTrainer(
            model,
            PatientGradients(model, objective, clip, bf16=self.training.bf16),
            StepMaker(order, maker, stage.micro_batch),
            maker,
            stage,
            accountant=Accountant(grant.noise_multiplier, grant.rate, self.work.steps.start),
            stream=stream,
            deviation=grant.noise_multiplier * privacy.clip,
            expected=grant.rate * len(grant.patients),
            folder=self.work.folder,
            loop=self.loop,
            wants_stop=wants_stop,
        )

    def _drawn(self, stage: StageSettings, stream: SecretStream) -> SampleSettings:
        # Not `spread_timesteps`: it would tie the tiles of different patients to each other.
        return SampleSettings(
            stage=stage.stage,
            global_batch=stage.global_batch,
            seed=stream.seed("tiles"),
            condition_dropout=stage.condition_dropout,
            turn=stage.turn,
            skip_bad=self.loop.on_bad_data == "skip",
        )
