"""What a run was told to do, and ``run.json``, which holds it for the next start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.errors import DataError, WorkFolderError
from pixcell_share.files import atomic_write_text
from pixcell_share.training.latents import LatentStore, OnBad, Source
from pixcell_share.training.loop import LoopSettings
from pixcell_share.training.stages import StageSettings

FILE = "run.json"
_SCHEMA = 1
_MAY_CHANGE = ("steps", "micro_batch")
"""Of the stage's settings: more steps may follow, and micro-batches follow the ranks."""


@dataclass(frozen=True)
class DataSettings:
    """What is learned from, and in which order."""

    latents: tuple[tuple[Path, int], ...]
    """Stores, each with how often an epoch goes through it."""
    on_bad: OnBad = "refuse"
    """``refuse`` data with a fault, or ``skip`` it."""
    buffer: int = 16_384
    """Regions that are shuffled among each other, at least."""
    seed: int = 0
    """Of the model's start, the order, and everything drawn."""

    def open(self, say: Any = print) -> list[Source]:
        """Open the stores.

        Raises:
            SettingsError: one is no store.
            DataError: one has a fault, and bad data is refused.
        """
        return [
            Source(LatentStore.open(folder, on_bad=self.on_bad, say=say), repeat)
            for folder, repeat in self.latents
        ]


@dataclass(frozen=True)
class RunSettings:
    """All of ``pixcell-train run``."""

    stage: StageSettings
    """What is trained, and how."""
    data: DataSettings
    """On what."""
    out: Path
    """Folder of the run."""
    init: Path | None = None
    """Model folder of the stage before."""
    loop: LoopSettings = field(default_factory=LoopSettings)
    """How it is carried out."""
    exact_micro_batch: bool = False
    """Refuse a micro-batch that does not divide, instead of taking a smaller one."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    vae: str | None = None
    """For samples and export, in place of the one that made the stores."""
    samples: int = 8
    """Pictures of a sample grid in a row."""


def fixed_settings(settings: RunSettings, sources: Sequence[Source]) -> dict[str, Any]:
    """What may not change within a run, because the numbers depend on it."""
    stage = {key: value for key, value in asdict(settings.stage).items() if key not in _MAY_CHANGE}
    return {
        "stage": stage,
        "data": [_describe(source) for source in sources],
        "on_bad_data": settings.data.on_bad,
        "buffer": settings.data.buffer,
        "seed": settings.data.seed,
        "init": str(settings.init.resolve()) if settings.init else None,
        "dtype": "bf16" if settings.loop.bf16 else "fp32",
        "compile": settings.loop.compile,
    }


def _describe(source: Source) -> dict[str, Any]:
    store = source.store
    digest = hashlib.sha256((store.folder / "store.json").read_bytes()).hexdigest()
    return {
        "store": store.folder.name,
        "sha256": digest,
        "repeat": source.repeat,
        "regions": store.count("train"),
        "holdout": store.count("holdout"),
    }


def read_run(folder: Path) -> dict[str, Any] | None:
    """``run.json`` of a run, or None where none was begun.

    Raises:
        DataError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != _SCHEMA:
            raise ValueError(f"version {value['schema']}, this program reads {_SCHEMA}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} describes no run: {error!r}", "start in a new folder") from error
    assert isinstance(value, dict)
    return value


def check_same(folder: Path, fixed: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings.

    Raises:
        WorkFolderError: names the first difference.
    """
    before = read_run(folder)
    if before is None:
        return
    now = json.loads(json.dumps(fixed))
    for name, old, new in _differences(before["fixed"], now, ""):
        raise WorkFolderError(
            f"{folder} was begun with {name} = {old}, not {new}",
            "use the same settings to go on with it, or another --out to begin anew",
        )


def write_run(folder: Path, fixed: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Args:
        folder: of the run.
        fixed: from `fixed_settings`.
        about: what may change, and what the export needs.
    """
    value = {"schema": _SCHEMA, "fixed": fixed, "about": about}
    atomic_write_text(folder / FILE, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, f"{name}[{at}]")
    elif old != new:
        yield name, old, new
