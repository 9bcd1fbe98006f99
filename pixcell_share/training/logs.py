"""The log of a run: ``log.jsonl``, TensorBoard, and a line or a bar for the person who watches."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pixcell_share.files import atomic_write_text

LOG = "log.jsonl"
_CURVES = (
    *("loss", "grad_norm", "rate", "images_per_second", "mfu", "waiting", "memory_gib"),
    *("dino", "ibot", "koleo"),  # of `pixcell_share.ssl`
)


class RunLog:
    """Writes one line for each log step; silent on the other ranks.

    A resumed run goes on from its checkpoint, so lines of later steps are cut off first.

    Args:
        folder: of the run; None on the ranks that are silent.
        step: the step to go on from; 0 begins anew.
        steps: the last step, for the bar.
        name: what the bar is called.
        quiet: no bar and no lines for people.
    """

    def __init__(
        self, folder: Path | None, *, step: int, steps: int, name: str, quiet: bool = False
    ) -> None:
        silent = quiet or folder is None
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=silent)
        self._bar = _bar(self._console)
        self._task = self._bar.add_task(name, total=steps, completed=step, figures="")
        self._steps = steps
        self._stream: TextIO | None = None
        self._curves: Any = None
        if folder is not None:
            self._open(folder, step)

    def _open(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        cut_back(folder / LOG, step)
        self._stream = (folder / LOG).open("a", encoding="utf-8")
        self._curves = _tensorboard(folder / "tensorboard", step)
        if self._curves is None:
            self.say(f"TensorBoard is not installed: figures go to {LOG} alone")

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._stream is not None:
            self._stream.close()
        if self._curves is not None:
            self._curves.close()

    def say(self, text: str) -> None:
        """One line for people, on standard error."""
        self._console.print(text, markup=False)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Move the bar.

        Args:
            step: steps done.
            loss: of this step.
            rate: images per second since the last log line.
        """
        figures = f"loss {loss:.4f}  {rate:,.1f} images/s"
        self._bar.update(self._task, completed=step, figures=figures)

    def line(self, figures: Mapping[str, Any]) -> None:
        """Write one line of ``log.jsonl`` and its curves."""
        if self._stream is None:
            return
        self._stream.write(json.dumps(figures, allow_nan=False) + "\n")
        self._stream.flush()
        if self._curves is not None:
            _draw(self._curves, figures)
        if not self._console.is_terminal:
            self.say(_sentence(figures, self._steps))

    def keep(self) -> None:
        """Put the lines on the disk: no checkpoint may be newer than its log."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())


def cut_back(path: Path, step: int) -> None:
    """Drop the lines of steps after ``step``, and a last line that was never finished."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if len(kept) < len(lines):
        atomic_write_text(path, "".join(kept))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``log.jsonl``."""
    text = (folder / LOG).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer that hides what it finds of later steps, or None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step + 1 if step else None)


def _draw(curves: Any, figures: Mapping[str, Any]) -> None:
    step = figures["step"]
    for name in _CURVES:
        if figures.get(name) is not None:
            curves.add_scalar(name, figures[name], step)
    for level, value in enumerate(figures.get("loss_by_noise", ())):
        if value is not None:
            curves.add_scalar(
                f"loss by noise/{level * 100:03d}-{level * 100 + 99:03d}", value, step
            )


def _sentence(figures: Mapping[str, Any], steps: int) -> str:
    mfu = figures.get("mfu")
    parts = [
        f"step {figures['step']:,}/{steps:,}",
        f"loss {figures['loss']:.4f}",
        f"grad {figures['grad_norm']:.3g}",
        f"rate {figures['rate']:.2e}",
        f"{figures['images_per_second']:,.1f} images/s",
        *([] if mfu is None else [f"MFU {mfu:.1%}"]),
        f"waiting {figures['waiting']:.1%}",
        f"{figures['memory_gib']:.1f} GiB",
    ]
    return "  ".join(parts)


def _bar(console: Console) -> Progress:
    """A live bar on a terminal; nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}  {task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
