"""The loop of a run: steps, agreement between ranks, checkpoints, log, samples, stopping.

It knows nothing of PixCell: what is trained, and what the loss is, are given to it. Nothing in it
draws random numbers, so that a resumed run has the bits of an unbroken one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pixcell_share.training.average import Average
from pixcell_share.training.badbatch import BadBatch
from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import BatchMaker, map_tensors
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks, Sharding, spread, summing, whole
from pixcell_share.training.division import Division
from pixcell_share.training.logs import RunLog
from pixcell_share.training.meter import (
    Meter,
    StepFigures,
    is_bad,
    loss_of,
    waited,
    wants_stop,
)
from pixcell_share.training.objective import Losses
from pixcell_share.training.optimizers import build_optimizers, learning_rate, set_rates
from pixcell_share.training.pace import Pace
from pixcell_share.training.reading import batches_ahead, worker_count
from pixcell_share.training.stages import StageSettings
from pixcell_share.training.state import TrainingState
from pixcell_share.training.stopping import StopRequest


@dataclass(frozen=True)
class LoopSettings:
    """How a run is carried out; none of this changes what is learned but ``bf16``."""

    bf16: bool = False
    """Compute in bfloat16 (autocast); weights, averages and sums stay float32."""
    sharding: Sharding = "ddp"
    """How several ranks share the model."""
    compile: bool = False
    """Compile the model's blocks."""
    save_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: int = 3
    """Checkpoints kept."""
    log_every: int = 10
    """Steps between log lines."""
    sample_every: int = 0
    """Steps between sample grids; 0 for none."""
    quiet: bool = False
    """No bar and no lines for people."""


class Objective(Protocol):
    """From a model and a batch to the loss."""

    def __call__(self, model: nn.Module, batch: Batch) -> Losses:
        """The loss of one micro-batch; ``total`` is a mean over its rows."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps done, over all resumed runs."""
    stopped: bool
    """Whether a signal ended it before the last step."""
    loss: float | None
    """Of the last step of this process; None where it made none."""


class Trainer:
    """A model under training.

    Args:
        model: on this rank's device, not yet spread; what takes a gradient is trained.
        objective: the loss.
        stage: optimizer, rates, clip, average and number of steps.
        maker: of batches.
        division: of a step over ranks and micro-batches.
        ranks: of the run.
        folder: of the run.
        settings: how it is carried out.
        pace: measures the speed.
        kept: which entries of the state dict a checkpoint holds; by default all.
        sample: given the step and the whole averaged weights, draws pictures (rank 0 alone).
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        stage: StageSettings,
        maker: BatchMaker,
        division: Division,
        ranks: Ranks,
        folder: Path,
        settings: LoopSettings,
        *,
        pace: Pace | None = None,
        kept: Callable[[str], bool] = lambda name: True,
        sample: Callable[[int, Mapping[str, Tensor]], None] | None = None,
    ) -> None:
        self._objective, self._stage = objective, stage
        self._maker, self._division, self._ranks = maker, division, ranks
        self._folder, self._settings = folder, settings
        self._sample = sample
        if settings.compile:
            # Block by block: they are alike, so one is compiled; and each is split by itself.
            for block in getattr(model, "transformer_blocks", [model]):
                block.compile()
        self._model = spread(model, ranks, sharding=settings.sharding, bf16=settings.bf16)
        self.model = model
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizers = build_optimizers(model, stage)
        self.average = Average(self._parameters, stage.ema)
        self._meter = Meter()
        self._state = TrainingState(
            model, self._parameters, self.optimizers, self.average, self._meter, kept
        )
        self._checkpoints = Checkpoints(
            folder / "checkpoints", ranks, keep=settings.keep_checkpoints
        )
        self._pace = pace or Pace(division.global_batch, ranks)
        self._loss: float | None = None

    def run(self) -> Outcome:
        """Train to the last step, from the last checkpoint on where there is one.

        Raises:
            LossError: a loss was NaN or infinite; nothing of that step was applied.
            DataError: a sample is not finite, and bad data is refused.
            StorageError: a checkpoint could not be written.
        """
        first = self._resume()
        steps = range(first, self._stage.steps)
        with StopRequest() as stop, self._log(first) as log:
            batches = batches_ahead(
                self._maker,
                self._division,
                self._ranks,
                steps,
                workers=worker_count(self._ranks),
            )
            try:
                done = self._train(steps, batches, stop, log)
            finally:
                batches.close()  # type: ignore[attr-defined]
                self._checkpoints.wait()
            return Outcome(done, stop.agreed and done < self._stage.steps, self._loss)

    def whole_average(self) -> dict[str, Tensor]:
        """The state dict with the averaged weights, put together (all ranks must call)."""
        state = {name: whole(value.detach()) for name, value in self.model.state_dict().items()}
        return state | {name: whole(value) for name, value in self.average.weights.items()}

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
            steps=self._stage.steps,
            name=f"stage {self._stage.stage}",
            quiet=self._settings.quiet,
        )

    def _train(self, steps: range, batches: Iterator[Batch], stop: StopRequest, log: RunLog) -> int:
        self._pace.start()
        for step in steps:
            self._step(step, batches, stop)
            done = step + 1
            self._tell(done, log)
            if stop.agreed or done == steps.stop or done % self._settings.save_every == 0:
                log.keep()
                self._checkpoints.save(done, self._state.tensors())
            if stop.agreed:
                return done
            if self._settings.sample_every and done % self._settings.sample_every == 0:
                self._draw(done)
        return max(steps.start, steps.stop)

    def _step(self, step: int, batches: Iterator[Batch], stop: StopRequest) -> None:
        set_rates(self.optimizers, self._stage, step)
        bad = BadBatch(self._folder, self._maker, self._ranks)
        vector = self._descend(batches, stop, bad)
        if is_bad(vector):
            raise bad.report(step, "the loss is NaN or infinite")
        norm = float(whole(self._clip()))
        if not math.isfinite(norm):
            raise bad.report(step, "the gradient is NaN or infinite")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.average.update(step + 1)
        self._meter.add(vector, norm)
        self._loss = loss_of(vector)
        self._pace.step(waited(vector))
        stop.agreed = wants_stop(vector)

    def _descend(self, batches: Iterator[Batch], stop: StopRequest, bad: BadBatch) -> Tensor:
        """Gradients of one step; the figures of all ranks, on the CPU."""
        figures, device = StepFigures(self._ranks.device), self._ranks.device
        parts = self._division.accumulation
        for part in range(parts):
            batch = self._next(batches)
            batch = map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
            with summing(self._model, last=part == parts - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self._settings.bf16):
                    losses = self._objective(self._model, batch)
                share = losses.total / parts
                share.backward()  # type: ignore[no-untyped-call]
            figures.add(share.detach(), losses.per_sample, batch.timesteps, batch.weights)
            bad.remember(batch, losses.per_sample)
        note = figures.note(
            stop=stop.asked, waited=self._pace.take_waited(), world=self._ranks.world
        )
        return self._ranks.add_up(note).cpu()

    def _next(self, batches: Iterator[Batch]) -> Batch:
        began = time.monotonic()
        batch = next(batches)
        self._pace.wait(time.monotonic() - began)
        return batch

    def _clip(self) -> Tensor:
        return nn.utils.clip_grad_norm_(self._parameters.values(), self._stage.clip)

    def _tell(self, done: int, log: RunLog) -> None:
        """Move the bar; after ``log_every`` steps, and at the end, write a line."""
        assert self._loss is not None
        log.step(done, self._loss, self._pace.images_per_second)
        if done % self._settings.log_every and done != self._stage.steps:
            return
        rate = learning_rate(self._stage, done - 1)
        log.line({"step": done, **self._meter.figures(), "rate": rate, **self._pace.figures()})
        self._meter.clear()
        self._pace.start()

    def _draw(self, done: int) -> None:
        if self._sample is None:
            return
        weights = self.whole_average()
        if self._ranks.first:
            self._sample(done, weights)
