"""The log of a training while it is written: what live curves are drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixcell_share.training.logs import LOG

_SHOWN = ("loss", "images_per_second", "mfu")


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of ``log.jsonl``; none where the training has not begun to log.

    Each line has ``step`` and figures by name, see `pixcell_share.ssl`.
    """
    try:
        data = (folder / LOG).read_bytes()
    except FileNotFoundError:
        return []
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def progress_of(folder: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """What the registry shows of a training that is under way.

    Args:
        folder: of the job.
        before: what it showed, with the number of ``steps``.
    """
    lines = read_curves(folder)
    if not lines:
        return dict(before)
    last = lines[-1]
    figures = {name: last[name] for name in _SHOWN if last.get(name) is not None}
    return {**before, "step": last["step"], **figures}
