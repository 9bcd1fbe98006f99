"""What the page of a job shows: how far it is, and the curves of a training's log.

The log is JSON Lines, see `pixcell_share.training.logs`: one object for some steps, with ``step``,
``loss``, ``images_per_second``, ``mfu`` and more. It may be cut short while it is written. It is
read here and not through `hub_server.jobs`, which would bring torch into the process of the pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_server.home import HubHome
from hub_server.registry import Job, JobState
from hub_server.web.charts import Curve, curve
from pixcell_share.training.logs import LOG

_MOST_BYTES = 16 << 20
_CURVES = (
    ("loss", "Loss", 1.0, ""),
    ("images_per_second", "Images per second", 1.0, ""),
    ("mfu", "Model FLOP utilisation", 100.0, "\u00a0%"),
)
"""Name in the log, title, factor and unit."""


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    done: int
    total: int
    others: tuple[tuple[str, Any], ...]
    """What else the worker tells, by name."""

    @property
    def share(self) -> float:
        """0 to 1; 0 where the total is not known."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


def progress_of(job: Job) -> Progress:
    """What the worker told last."""
    told = job.progress or {}
    done, total = _whole(told.get("step")), _whole(told.get("steps"))
    if job.state is JobState.DONE and total:
        done = total
    others = tuple((k, v) for k, v in told.items() if k not in ("step", "steps"))
    return Progress(done, total, others)


def curves_of(home: HubHome, job: Job) -> list[Curve]:
    """The curves of a training, as far as it is; none of other jobs."""
    path = _log_of(home, job)
    if path is None:
        return []
    lines = list(_lines(path))
    drawn = (
        curve(title, [(x, factor * y) for x, y in _points(lines, name)], unit)
        for name, title, factor, unit in _CURVES
    )
    return [each for each in drawn if each is not None]


def _log_of(home: HubHome, job: Job) -> Path | None:
    """Where the log lies; never outside the home, whatever the row says."""
    if not job.folder:
        return None
    folder = (home.folder / job.folder).resolve()
    path = folder / LOG
    return path if folder.is_relative_to(home.folder.resolve()) and path.is_file() else None


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The whole lines of a log's last part."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _MOST_BYTES))
        for line in stream.read().splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue  # cut short, at either end
            if isinstance(found, dict):
                yield found


def _points(lines: list[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [
        (float(line["step"]), float(line[name]))
        for line in lines
        if _is_number(line.get("step")) and _is_number(line.get(name))
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> int:
    return int(value) if _is_number(value) else 0
