"""Train an encoder: from settings and tiles to a folder that others load."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pixcell_share.progress import Advance, View
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.batches import CropMaker
from pixcell_share.ssl.card import SourceRecord, build_card, licences_of, records, write_card
from pixcell_share.ssl.distillation import build
from pixcell_share.ssl.export import HUB_FILES, TIMM, write_weights
from pixcell_share.ssl.flops import training_flops
from pixcell_share.ssl.loop import Outcome, SslTrainer
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.sources import SourceSettings, TileSource, open_source
from pixcell_share.training.distributed import Ranks, joined
from pixcell_share.training.division import divide
from pixcell_share.training.pace import Pace
from pixcell_share.training.peaks import device_name, peak_flops
from pixcell_share.training.settings import check_same, write_run
from pixcell_share.weights import digest_files

ENCODER = "encoder"
"""Folder of the export, in the folder of the run."""
_MAY_CHANGE = (
    *("micro_batch", "device", "sharding", "workers"),
    *("save_every", "keep_checkpoints", "log_every"),
)
"""Settings that a resumed run may have otherwise: the numbers stay, or nearly (see `docs`)."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedEncoder:
    """How a training ended."""

    name: str
    """Of the encoder."""
    architecture: str
    dim: int
    """Length of an embedding."""
    step: int
    """Steps done, over all resumed runs."""
    steps: int
    """Steps asked for."""
    stopped: bool
    """Whether a signal ended it early; the same call goes on."""
    loss: float | None
    """Of the last step of this process; None where it made none."""
    folder: Path | None
    """The exported encoder; None where it was stopped, and on ranks after the first."""
    licences: tuple[str, ...]
    """Terms that carry over from the data."""
    noncommercial: bool
    """Whether one of them forbids commercial use."""


def train_encoder(
    settings: SslSettings,
    sources: Sequence[SourceSettings],
    out: Path,
    view: View,
    *,
    name: str = "",
) -> TrainedEncoder:
    """Train an encoder, or go on where it stopped; at its end export it to ``out/encoder``.

    Started by ``torchrun`` (or ``srun`` with its variables) the processes share the work: every
    one of them makes this call.

    Args:
        settings: of the training.
        sources: the tiles.
        out: folder of the run; all ranks must see the same.
        view: shows the progress.
        name: of the encoder; by default the name of ``out``.

    Raises:
        SettingsError: settings do not fit each other, the data, or the run in the folder.
        DataError: tiles cannot be read.
        LossError: a loss was NaN or infinite.
        StorageError: the disk is full, or the folder cannot be written.
    """
    opened = [open_source(source) for source in sources]
    with joined(settings.device, sharding=settings.sharding) as ranks:
        shown = view if ranks.first else SilentView()
        return _Job(settings, opened, out, shown, ranks, name or out.resolve().name).run()


class SilentView:
    """Shows nothing: for the ranks after the first, and for tests."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """Nothing."""
        yield lambda count: None

    def say(self, text: str) -> None:
        """Nothing."""


class _Job:
    """One process of a run."""

    def __init__(
        self,
        settings: SslSettings,
        sources: Sequence[TileSource],
        out: Path,
        view: View,
        ranks: Ranks,
        name: str,
    ) -> None:
        self._settings, self._sources, self._out = settings, sources, out
        self._view, self._ranks, self._name = view, ranks, name
        self._records = records(sources)

    def run(self) -> TrainedEncoder:
        settings, ranks = self._settings, self._ranks
        division = divide(settings.global_batch, ranks.world, settings.micro_batch, exact=False)
        fixed = fixed_settings(settings, self._records)
        check_same(self._out, fixed)
        ranks.wait()
        if ranks.first:
            write_run(self._out, fixed, self._about())
        maker = CropMaker(settings, architecture(settings.architecture), self._sources)
        model = build(settings).to(ranks.device)
        trainer = SslTrainer(
            model, settings, maker, division, ranks, self._out, self._view, pace=self._pace()
        )
        return self._report(trainer, trainer.run())

    def _about(self) -> dict[str, Any]:
        now = asdict(self._settings)
        return {
            "name": self._name,
            "ranks": self._ranks.world,
            "device": device_name(self._ranks.device),
            **{key: now[key] for key in _MAY_CHANGE},
        }

    def _pace(self) -> Pace:
        kind = torch.bfloat16 if self._settings.bf16 else torch.float32
        peak = peak_flops(device_name(self._ranks.device), kind)
        flops = training_flops(self._settings)
        return Pace(self._settings.global_batch, self._ranks, flops, peak)

    def _report(self, trainer: SslTrainer, outcome: Outcome) -> TrainedEncoder:
        folder = None
        if not outcome.stopped:
            weights = trainer.teacher_weights()
            if self._ranks.first:
                folder = self._export(weights, outcome)
        shape = architecture(self._settings.architecture)
        return TrainedEncoder(
            name=self._name,
            architecture=shape.name,
            dim=shape.width,
            step=outcome.step,
            steps=self._settings.schedule.steps,
            stopped=outcome.stopped,
            loss=outcome.loss,
            folder=folder,
            licences=tuple(licences_of(self._records)),
            noncommercial=any(record.noncommercial for record in self._records),
        )

    def _export(self, weights: dict[str, torch.Tensor], outcome: Outcome) -> Path:
        folder, settings = self._out / ENCODER, self._settings
        terms = {
            "name": self._name,
            "licence": "; ".join(licences_of(self._records)) or "not stated",
            "noncommercial": any(record.noncommercial for record in self._records),
        }
        shape = architecture(settings.architecture)
        write_weights(folder, weights, shape, settings.crops.global_px, terms)
        files = (*HUB_FILES, f"{TIMM}/model.safetensors")
        digests = {file: digest_files([folder / file]) for file in files}
        card = build_card(self._name, settings, self._records, outcome.step, outcome.loss, digests)
        write_card(folder, card)
        return folder


def fixed_settings(settings: SslSettings, sources: Sequence[SourceRecord]) -> dict[str, Any]:
    """What may not change within a run, because the numbers depend on it."""
    kept = {key: value for key, value in asdict(settings).items() if key not in _MAY_CHANGE}
    return {"ssl": kept, "sources": [asdict(source) for source in sources]}
