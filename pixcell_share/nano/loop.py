"""One training loop for every stage: budget, learning rate, average, checkpoints, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from pixcell_share.files import atomic_path

Step = Callable[[np.random.Generator], Tensor]
"""Draws a batch with the generator and returns the loss to descend."""


@dataclass(frozen=True)
class Budget:
    """When a stage ends: whichever comes first. The learning rate follows the same measure."""

    steps: int
    """Optimizer steps."""
    minutes: float = math.inf
    """Wall time in minutes, summed over resumed runs."""
    warmup: float = 0.02
    """Share of the budget over which the learning rate rises from zero."""
    floor: float = 0.02
    """Learning rate at the end, as a share of the highest."""

    def done(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, in [0, 1]."""
        return min(1.0, max(step / self.steps, seconds / 60 / self.minutes))

    def rate(self, done: float) -> float:
        """Factor of the learning rate: linear warm-up, then a half cosine."""
        if done < self.warmup:
            return (done + 1e-3) / (self.warmup + 1e-3)
        turn = (done - self.warmup) / (1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * turn))


@dataclass
class Average:
    """Exponential moving average of the weights, warmed up as (1 + n) / (10 + n)."""

    decay: float
    """Highest decay per step."""
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = {n: v for n, v in module.state_dict().items() if v.is_floating_point()}
        if not self.weights:
            self.weights = {name: value.detach().clone() for name, value in state.items()}
            return
        with torch.no_grad():
            kept = [self.weights[name] for name in state]
            torch._foreach_lerp_(kept, list(state.values()), 1 - decay)


@dataclass(frozen=True)
class LoopSettings:
    """How a stage is stepped and kept."""

    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down to it."""
    save_minutes: float = 3.0
    """Time between checkpoints."""
    average: float = 0.995
    """Decay of the averaged weights."""


@dataclass
class Trainer:
    """A stage under way: what is trained, with which optimizers, kept in which file."""

    name: str
    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    budget: Budget
    checkpoint: Path
    settings: LoopSettings = field(default_factory=LoopSettings)
    seed: int = 0
    step_count: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.average = Average(self.settings.average)
        self._rates = [group["lr"] for opt in self.optimizers for group in opt.param_groups]
        if self.checkpoint.exists():
            self._load()

    @property
    def done(self) -> float:
        """Share of the budget used so far."""
        return self.budget.done(self.step_count, self.seconds)

    def run(self, loss_of: Step, *, show: bool = True) -> None:
        """Train until the budget is used; a stage that is already done returns at once."""
        rng = np.random.default_rng([self.seed, self.step_count])
        torch.manual_seed(self.seed + self.step_count)
        started, saved = time.monotonic(), time.monotonic()
        first, before = self.step_count, self.seconds
        with _progress(show) as bar:
            task = bar.add_task(self.name, total=1.0, figures="")
            while self.done < 1.0:
                loss = self._step(loss_of, rng)
                self.seconds = before + time.monotonic() - started
                self._report(bar, task, loss)
                if time.monotonic() - saved > 60 * self.settings.save_minutes:
                    self.save()
                    saved = time.monotonic()
        if self.step_count > first:
            self.save()

    def _step(self, loss_of: Step, rng: np.random.Generator) -> float:
        factor = self.budget.rate(self.done)
        groups = [group for opt in self.optimizers for group in opt.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * factor
        loss = loss_of(rng)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step_count += 1
        self.average.update(self.module, self.step_count)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"{self.name}: the loss is {value} at step {self.step_count}")
        return value

    def _report(self, bar: Progress, task: TaskID, loss: float) -> None:
        self._smooth = 0.98 * getattr(self, "_smooth", loss) + 0.02 * loss
        pace = self.step_count / max(self.seconds, 1e-6)
        figures = f"step {self.step_count}  loss {self._smooth:.4f}  {pace:.2f} steps/s"
        bar.update(task, completed=self.done, figures=figures)
        if not bar.live.is_started and self.step_count % 100 == 0:
            print(f"{self.name}: {self.done:6.1%}  {figures}", flush=True)

    def save(self) -> None:
        """Write everything that a later run needs to go on from here."""
        state: dict[str, Any] = {
            "step": self.step_count,
            "seconds": self.seconds,
            "module": self.module.state_dict(),
            "average": self.average.weights,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.step_count, self.seconds = state["step"], state["seconds"]
        self.module.load_state_dict(state["module"])
        device = next(self.module.parameters()).device
        self.average.weights = {name: w.to(device) for name, w in state["average"].items()}
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)


def _progress(show: bool) -> Progress:
    """A live bar on a terminal; elsewhere a plain line now and then."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f} %  {task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns)
    bar.disable = not (show and bar.console.is_terminal)
    return bar
