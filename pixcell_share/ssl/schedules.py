"""How rates, decay, temperature and momentum go, as DINOv2's ``CosineScheduler``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class ScheduleSettings:
    """Steps are counted from 0; the defaults are DINOv2's 100 epochs of 1250 steps."""

    steps: int = 125_000
    """Of the whole training."""
    warmup_steps: int = 12_500
    """In which the learning rate rises from 0."""
    rate: float = 0.004
    """Highest learning rate for a global batch of 1024; scaled by the root of the batch."""
    last_rate: float = 1e-6
    """At the end; not scaled."""
    frozen_steps: int = 1250
    """In which the prototypes of the heads do not move."""
    weight_decay: tuple[float, float] = (0.04, 0.4)
    """First and last."""
    momentum: tuple[float, float] = (0.992, 1.0)
    """First and last share of the teacher that a step keeps."""
    temperature: tuple[float, float] = (0.04, 0.07)
    """Of the teacher, first and after its warm-up."""
    temperature_steps: int = 37_500
    """In which the teacher's temperature rises."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.warmup_steps <= self.steps:
            raise SettingsError(
                f"{self.steps} steps with {self.warmup_steps} of warm-up",
                "use at least 1 step, and a warm-up that is not longer than the training",
            )
        if not (min(self.rate, *self.temperature) > 0):
            raise SettingsError("a rate or a temperature is not above 0", "use DINOv2's defaults")

    def over(self, steps: int) -> ScheduleSettings:
        """The same schedule in another number of steps: what is counted in steps goes with it."""
        share = steps / self.steps
        return replace(
            self,
            steps=steps,
            warmup_steps=round(self.warmup_steps * share),
            frozen_steps=round(self.frozen_steps * share),
            temperature_steps=round(self.temperature_steps * share),
        )


@dataclass(frozen=True)
class StepSchedule:
    """What holds in one step."""

    rate: float
    """Learning rate, before the factors of the groups."""
    last_layer_rate: float
    """That of the prototypes."""
    weight_decay: float
    momentum: float
    """Share of the teacher that the step keeps."""
    temperature: float
    """Of the teacher."""


def schedule(settings: ScheduleSettings, global_batch: int, step: int) -> StepSchedule:
    """What holds in ``step``, counted from 0.

    Args:
        settings: of the schedules.
        global_batch: images of a step, which the learning rate depends on.
        step: counted from 0.
    """
    highest = settings.rate * math.sqrt(global_batch / 1024)
    warmup = settings.warmup_steps
    if step < warmup:
        rate = rise(0.0, highest, step, warmup)
    else:
        rate = cosine(highest, settings.last_rate, step - warmup, settings.steps - warmup)
    return StepSchedule(
        rate=rate,
        last_layer_rate=0.0 if step < settings.frozen_steps else rate,
        weight_decay=cosine(*settings.weight_decay, step, settings.steps),
        momentum=cosine(*settings.momentum, step, settings.steps),
        temperature=rise(*settings.temperature, step, settings.temperature_steps),
    )


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From ``first`` at step 0 to ``last`` at ``steps`` and after."""
    if step >= steps:
        return last
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * step / steps))


def rise(first: float, last: float, step: int, steps: int) -> float:
    """In equal parts from ``first`` at step 0 to ``last`` at step ``steps - 1`` and after."""
    if step >= steps - 1:
        return last
    return first + (last - first) * step / (steps - 1)
