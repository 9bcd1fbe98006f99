"""The loop of a private training: clipped sums, noise, the accountant, checkpoints, log.

Nothing in it draws random numbers but from the secret stream, by step: a resumed run has the bits
of an unbroken one, and a step that is done twice gives the same result and is one release.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor, nn

from pixcell_share.prefetch import prefetch
from pixcell_share.training.average import Average
from pixcell_share.training.badbatch import BadBatch
from pixcell_share.training.batches import BatchMaker
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.logs import RunLog
from pixcell_share.training.loop import Outcome
from pixcell_share.training.meter import Meter, StepFigures, is_bad, loss_of
from pixcell_share.training.optimizers import build_optimizers, learning_rate, set_rates
from pixcell_share.training.pace import Pace
from pixcell_share.training.private.accountant import Accountant
from pixcell_share.training.private.gradients import Contribution, PatientGradients
from pixcell_share.training.private.noise import NoiseSource, drawn_ahead, noised_mean
from pixcell_share.training.private.settings import LoopSettings
from pixcell_share.training.private.steps import Part, StepMaker
from pixcell_share.training.private.stream import SecretStream
from pixcell_share.training.stages import StageSettings
from pixcell_share.training.state import TrainingState
from pixcell_share.training.stopping import StopRequest

_AHEAD = 4
"""Micro-batches made ahead of the one that is computed."""


class PrivateTrainer:
    """A LoRA under training by DP-SGD.

    Args:
        model: on the device; what takes a gradient is trained.
        gradients: of its patients.
        parts: makes the micro-batches of steps.
        maker: of batches; tells which tiles a bad one held.
        stage: optimizer and rates.
        accountant: of all steps; counts each before its result is used.
        stream: of the training.
        deviation: of the noise on the sum over patients.
        expected: number of patients in a step that the noised sum is divided by.
        folder: of the run.
        loop: how it is carried out.
        wants_stop: asked after each step whether to save and end.
    """

    def __init__(
        self,
        model: nn.Module,
        gradients: PatientGradients,
        parts: StepMaker,
        maker: BatchMaker,
        stage: StageSettings,
        *,
        accountant: Accountant,
        stream: SecretStream,
        deviation: float,
        expected: float,
        folder: Path,
        loop: LoopSettings,
        wants_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._gradients, self._parts, self._maker = gradients, parts, maker
        self._stage, self._accountant, self._stream = stage, accountant, stream
        self._deviation, self._expected = deviation, expected
        self._folder, self._loop, self._wants_stop = folder, loop, wants_stop
        self._parameters = dict(model.named_parameters())
        self._trained = {name: self._parameters[name] for name in gradients.names}
        self._device = next(model.parameters()).device
        self._ranks = Ranks(0, 1, self._device)
        self._optimizers = build_optimizers(model, stage)
        self._meter, self._clipped = Meter(), torch.zeros(2, dtype=torch.float64)
        self._state = TrainingState(
            model, self._trained, self._optimizers, Average(self._trained, 0.0), self._meter,
            lambda name: name in self._trained,
        )  # fmt: skip
        self._checkpoints = Checkpoints(folder / "checkpoints", self._ranks, keep=2)
        self._pace = Pace(stage.global_batch, self._ranks)
        self._loss: float | None = None

    def run(self, steps: range) -> Outcome:
        """Train the steps of a round, from the last checkpoint on where there is one.

        Raises:
            LossError: a loss or a norm was NaN or infinite; nothing of that step was applied.
            DataError: a tile is not finite, and bad data is refused.
            AuditError: the checkpoint was made with other noise.
            StorageError: a checkpoint could not be written.
        """
        left = range(self._resume(steps.start), steps.stop)
        log = RunLog(
            self._folder, step=left.start, steps=left.stop, name="private", quiet=self._loop.quiet
        )
        parts = prefetch(self._parts.parts(left), _AHEAD)
        count = sum(value.numel() for value in self._trained.values())
        noise = drawn_ahead(self._stream, left if self._deviation else left[:0], count)
        with StopRequest() as stop, log, closing(parts), noise as source:  # type: ignore[type-var]
            try:
                done = self._train(left, parts, source, stop, log)
            finally:
                self._checkpoints.wait()
        return Outcome(done, done < steps.stop, self._loss)

    def _resume(self, first: int) -> int:
        self._checkpoints.clean_up()
        step = self._checkpoints.latest()
        if step is None:
            return first
        self._state.load(self._checkpoints, step)
        self._checkpoints.read(step, self._accountant.tensors() | self._own())
        self._accountant.restore()
        return step

    def _own(self) -> dict[str, Tensor]:
        return {"log/clipped": self._clipped}

    def _train(
        self,
        steps: range,
        parts: Iterator[Part],
        noise: NoiseSource,
        stop: StopRequest,
        log: RunLog,
    ) -> int:
        self._pace.start()
        for step in steps:
            self._step(step, parts, noise)
            done = step + 1
            self._tell(done, steps.stop, log)
            stopping = stop.asked or self._wants_stop()
            if stopping or done == steps.stop or done % self._loop.save_every == 0:
                log.keep()
                tensors = self._state.tensors() | self._accountant.tensors() | self._own()
                self._checkpoints.save(done, tensors)
            if stopping:
                return done
        return max(steps.start, steps.stop)

    def _step(self, step: int, parts: Iterator[Part], noise: NoiseSource) -> None:
        set_rates(self._optimizers, self._stage, step)
        total, figures = self._sum(step, parts)
        self._accountant.step()
        mean = noised_mean(
            total,
            deviation=self._deviation,
            expected=self._expected,
            stream=noise,
            step=step,
        )
        for name, gradient in mean.items():
            self._trained[name].grad = gradient
        norm = torch.cat([gradient.flatten() for gradient in mean.values()]).norm()
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._meter.add(figures, float(norm))
        self._loss = loss_of(figures)
        self._pace.step(self._pace.take_waited())

    def _sum(self, step: int, parts: Iterator[Part]) -> tuple[dict[str, Tensor], Tensor]:
        """The clipped sum over all patients of a step, and the step's private figures."""
        total = {name: torch.zeros_like(value) for name, value in self._trained.items()}
        figures, last = StepFigures(self._device), False
        bad, norms = BadBatch(self._folder, self._maker, self._ranks), []
        while not last:
            part = self._next(parts)
            last = part.last
            if part.tiles is None:
                continue
            found = self._gradients(part.tiles)
            for name, value in found.total.items():
                total[name] += value
            norms.append(found.norms)
            bad.remember(part.tiles.batch, found.losses.per_sample)
            self._count(figures, found, part)
        vector = figures.note(stop=False, waited=0.0, world=1).cpu()
        every = torch.cat(norms).cpu() if norms else torch.zeros(0)
        if is_bad(vector) or not bool(torch.isfinite(every).all()):
            raise bad.report(step, "a loss or a patient's gradient is NaN or infinite")
        self._clipped += torch.tensor([float((every > self._stage.clip).sum()), len(every)])
        return total, vector

    def _count(self, figures: StepFigures, found: Contribution, part: Part) -> None:
        assert part.tiles is not None
        losses, weights = found.losses, part.tiles.batch.weights.to(self._device)
        share = losses.total.detach() / part.patients
        figures.add(share, losses.per_sample, losses.timesteps, weights)

    def _next(self, parts: Iterator[Part]) -> Part:
        began = time.monotonic()
        part = next(parts)
        self._pace.wait(time.monotonic() - began)
        return part

    def _tell(self, done: int, end: int, log: RunLog) -> None:
        """Move the bar; after ``log_every`` steps, and at the end, write a line."""
        assert self._loss is not None
        log.step(done, self._loss, self._pace.images_per_second)
        if done % self._loop.log_every and done != end:
            return
        clipped, patients = self._clipped.tolist()
        log.line({
            "step": done, **self._meter.figures(), "rate": learning_rate(self._stage, done - 1),
            "patients": int(patients), "clipped": clipped / patients if patients else None,
            **self._pace.figures(),
        })  # fmt: skip
        self._meter.clear()
        self._clipped.zero_()
        self._pace.start()
