"""The loop of a training: steps, agreement between ranks, checkpoints, log, stopping.

As `pixcell_share.training.loop`, with a teacher. Nothing in it draws random numbers, so that a
resumed run has the bits of an unbroken one.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pixcell_share.errors import LossError
from pixcell_share.prefetch import prefetch
from pixcell_share.progress import Advance, View
from pixcell_share.ssl.batch import CropBatch
from pixcell_share.ssl.batches import CropMaker, micro_batches
from pixcell_share.ssl.distillation import Distillation
from pixcell_share.ssl.groups import build_optimizer, set_schedule
from pixcell_share.ssl.meter import Meter, StepFigures, is_bad, loss_of, waited, wants_stop
from pixcell_share.ssl.schedules import StepSchedule, schedule
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.state import SslState
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks, spread, summing, whole
from pixcell_share.training.division import Division
from pixcell_share.training.logs import RunLog
from pixcell_share.training.pace import Pace
from pixcell_share.training.stopping import StopRequest

_AHEAD = 4
"""Micro-batches made ahead of the one that is computed."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps done, over all resumed runs."""
    stopped: bool
    """Whether a signal ended it before the last step."""
    loss: float | None
    """Of the last step of this process; None where it made none."""


class SslTrainer:
    """Student and teacher under training.

    Args:
        model: on this rank's device, not yet spread.
        settings: of the run.
        maker: of batches.
        division: of a step over ranks and micro-batches.
        ranks: of the run.
        folder: of the run.
        view: shows the progress; used on rank 0 alone.
        pace: measures the speed.
    """

    def __init__(
        self,
        model: Distillation,
        settings: SslSettings,
        maker: CropMaker,
        division: Division,
        ranks: Ranks,
        folder: Path,
        view: View,
        *,
        pace: Pace | None = None,
    ) -> None:
        self.model, self._settings = model, settings
        self._maker, self._division, self._ranks = maker, division, ranks
        self._folder, self._view = folder, view
        self._student = self._spread()
        depth = len(model.student.transformer_blocks)
        self._optimizer = build_optimizer(model.student, depth, settings.groups)
        self._meter = Meter()
        self._state = SslState(model, self._optimizer, self._meter)
        self._checkpoints = Checkpoints(
            folder / "checkpoints", ranks, keep=settings.keep_checkpoints
        )
        self._pace = pace or Pace(division.global_batch, ranks)
        self._loss: float | None = None

    def run(self) -> Outcome:
        """Train to the last step, from the last checkpoint on where there is one.

        Raises:
            LossError: a loss was NaN or infinite; nothing of that step was applied.
            DataError: a tile cannot be read.
            StorageError: a checkpoint could not be written.
        """
        first, total = self._resume(), self._settings.schedule.steps
        steps = range(first, total)
        with StopRequest() as stop, self._log(first) as log:
            batches = self._batches(steps)
            try:
                with self._view.stage("train", total, "steps", first) as advance:
                    done = self._train(steps, batches, stop, log, advance)
            finally:
                batches.close()  # type: ignore[attr-defined]
                self._checkpoints.wait()
                self._maker.close()
        return Outcome(done, stop.agreed and done < total, self._loss)

    def teacher_weights(self) -> dict[str, Tensor]:
        """The backbone of the teacher, put together (all ranks must call): what is exported."""
        state = self.model.teacher.backbone.state_dict()
        return {name: whole(value.detach()) for name, value in state.items()}

    def _spread(self) -> nn.Module:
        model, settings = self.model, self._settings
        if settings.compile:
            for network in (model.student, model.teacher):
                for block in network.transformer_blocks:
                    block.compile()
        if settings.sharding == "fsdp2":
            # Nothing is changed in place here, of which torch warns.
            warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
            spread(model.teacher, self._ranks, sharding="fsdp2", bf16=settings.bf16)
        return spread(model.student, self._ranks, sharding=settings.sharding, bf16=settings.bf16)

    def _resume(self) -> int:
        self._checkpoints.clean_up()
        step = self._checkpoints.latest()
        if step is None:
            return 0
        self._state.load(self._checkpoints, step)
        return step

    def _log(self, first: int) -> RunLog:
        return RunLog(
            self._folder if self._ranks.first else None,
            step=first,
            steps=self._settings.schedule.steps,
            name="train",
            quiet=True,
        )

    def _batches(self, steps: range) -> Iterator[CropBatch]:
        pin = self._ranks.device.type == "cuda"
        made = micro_batches(self._maker, self._division, self._ranks.rank, steps, pin=pin)
        return prefetch(made, _AHEAD)

    def _train(
        self,
        steps: range,
        batches: Iterator[CropBatch],
        stop: StopRequest,
        log: RunLog,
        advance: Advance,
    ) -> int:
        self._pace.start()
        for step in steps:
            now = schedule(self._settings.schedule, self._division.global_batch, step)
            self._step(step, now, batches, stop)
            done = step + 1
            self._tell(done, now, log)
            advance(1)
            if stop.agreed or done == steps.stop or done % self._settings.save_every == 0:
                log.keep()
                self._checkpoints.save(done, self._state.tensors())
            if stop.agreed:
                return done
        return max(steps.start, steps.stop)

    def _step(
        self, step: int, now: StepSchedule, batches: Iterator[CropBatch], stop: StopRequest
    ) -> None:
        set_schedule(self._optimizer, now)
        vector = self._descend(batches, now, stop)
        if is_bad(vector):
            raise self._report(step, "the loss is NaN or infinite")
        norm = self._clip()
        if not math.isfinite(norm):
            raise self._report(step, "the gradient is NaN or infinite")
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.model.after_step(now.momentum, self._ranks.add_up)
        self._meter.add(vector, norm)
        self._loss = loss_of(vector)
        self._pace.step(waited(vector))
        stop.agreed = wants_stop(vector)

    def _descend(
        self, batches: Iterator[CropBatch], now: StepSchedule, stop: StopRequest
    ) -> Tensor:
        """Gradients of one step; the figures of all ranks, on the CPU."""
        device, parts = self._ranks.device, self._division.accumulation
        figures = StepFigures(device, parts * self._ranks.world)
        for part in range(parts):
            batch = self._next(batches).mapped(lambda x: x.to(device, non_blocking=True))
            with (
                summing(self._student, last=part == parts - 1),
                torch.autocast(device.type, torch.bfloat16, enabled=self._settings.bf16),
            ):
                losses = self.model.losses(
                    self._student, batch, now.temperature, self._ranks.add_up
                )
                (losses.total / parts).backward()  # type: ignore[no-untyped-call]
            figures.add(losses)
        share = self._pace.take_waited() / self._ranks.world
        return self._ranks.add_up(figures.note(stop=stop.asked, waited=share)).cpu()

    def _next(self, batches: Iterator[CropBatch]) -> CropBatch:
        began = time.monotonic()
        batch = next(batches)
        self._pace.wait(time.monotonic() - began)
        return batch

    def _clip(self) -> float:
        """Clip the backbone's gradient and each head's; the norm of all."""
        clip = self._settings.groups.clip
        norms = [
            float(whole(nn.utils.clip_grad_norm_(part.parameters(), clip)))
            for part in self.model.student.children()
        ]
        return math.hypot(*norms)

    def _tell(self, done: int, now: StepSchedule, log: RunLog) -> None:
        """After ``log_every`` steps, and at the end, write a line."""
        if done % self._settings.log_every and done != self._settings.schedule.steps:
            return
        figures = {"step": done, **self._meter.figures(), "rate": now.rate}
        log.line({**figures, **self._pace.figures()})
        self._meter.clear()
        self._pace.start()

    def _report(self, step: int, what: str) -> LossError:
        first = step * self._division.global_batch
        return LossError(
            f"step {step + 1}: {what}; its first tile is {self._maker.describe(first)}",
            "look at the tiles of this step; with a rate too high use a smaller one in a new "
            "folder; the last checkpoint is from before",
        )
