"""Arrays of a round on disk: what goes out with its first step, and what came with answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.files import atomic_path

Arrays = Mapping[str, NDArray[np.generic]]
_START = "start.npz"


def keep_start(folder: Path, arrays: Arrays) -> None:
    """Keep what goes out with the first step of a round."""
    _write(folder / _START, arrays)


def start_of(folder: Path) -> dict[str, NDArray[np.generic]]:
    """What goes out with the first step; empty for nothing."""
    return _read(folder / _START)


def keep_answer(folder: Path, step: int, site: str, arrays: Arrays) -> None:
    """Keep what came with a site's answer. It is written before the answer itself."""
    _write(_answer(folder, step, site), arrays)


def answer_of(folder: Path, step: int, site: str) -> dict[str, NDArray[np.generic]]:
    """What came with a site's answer; empty for nothing."""
    return _read(_answer(folder, step, site))


def _answer(folder: Path, step: int, site: str) -> Path:
    name = base64.b32encode(site.encode()).decode().rstrip("=").lower()
    return folder / "arrays" / f"{step}-{name}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **dict(arrays))  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
